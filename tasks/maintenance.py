"""The tasks that beat starts: whatever was missed is found here."""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery import Celery

from embed_star.errors import StoreError, TransientError
from embed_star.produce.producer import Lease
from embed_star.settings import Settings
from embed_star.store.tables.checkpoints import Phase
from embed_star.store.tables.timestamps import SWEPT
from tasks.base import ServiceTask
from tasks.dispatch import CeleryDispatcher

log = structlog.get_logger(__name__)

DEAD_LOCK_S = 3600.0
"""Locks that nobody wanted again are cleared when they have been over for this long."""

HNSW_MIN_ROWS = 10_000
"""Vectors from which on an HNSW index is built: to read fewer one by one takes no longer."""

RECONCILE_SLICE_S = 10.0
"""How long one reconcile task works before it makes way; beat starts the next one."""


EXPECTED: dict[str, Any] = {
    "shared": False,  # with other apps of this process
    "ignore_result": True,
    # An outage, or a table that cannot be walked, is no news with a traceback: beat starts the
    # task again anyway.
    "throws": (TransientError, StoreError),
}


def register(app: Celery, settings: Settings) -> None:
    """Register the tasks with `app`."""

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.sweep_backlog", bind=True, **EXPECTED
    )
    def sweep_backlog(task: ServiceTask) -> None:
        """Clear dead locks; do the producer's work once if no producer leads."""
        services = task.services
        cleared = services.store.locks.sweep(DEAD_LOCK_S)
        lease = Lease(services.leases, f"sweep:{task.request.id}", settings.leader_lease_s)
        dispatched = 0
        if lease.hold():
            try:
                dispatched = services.backlog(CeleryDispatcher(app)).dispatch().dispatched
            finally:
                lease.give_up()
        services.store.timestamps.set(SWEPT)
        log.info("swept", cleared_locks=cleared, dispatched=dispatched)

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.reconcile", bind=True, **EXPECTED
    )
    def reconcile(task: ServiceTask) -> None:
        """Do a slice of the walk when one is due and the backfill lane has room."""
        services = task.services
        reconciler = services.reconciler
        idle = services.store.space_watch.is_retired() or not reconciler.due(
            settings.reconcile_interval_s
        )
        if idle or not reconciler.backlog_is_short():
            return
        progress = reconciler.begin()
        until = time.monotonic() + RECONCILE_SLICE_S
        while progress.phase is not Phase.DONE and time.monotonic() < until:
            if task.services.grace.begun:
                break
            progress = reconciler.step(progress)
            if not reconciler.backlog_is_short():
                break
        log.info(
            "reconciled",
            phase=progress.phase.value,
            checked=progress.checked,
            removed=progress.removed,
        )

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.maintain_index", bind=True, **EXPECTED
    )
    def maintain_index(task: ServiceTask) -> None:
        """Begin building the HNSW index when the table has grown so large that it pays.

        Not on 2.x, where writing under the index is ten times slower.
        """
        store = task.services.store
        vectors = store.vectors
        if vectors.count() >= HNSW_MIN_ROWS and store.database.version >= (3,):
            log.info("index", begun=vectors.build_index())
