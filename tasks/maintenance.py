"""The tasks that beat starts. They find everything that was missed."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery

from embed_star.errors import StoreError, TransientError
from embed_star.produce import vector_index
from embed_star.produce.leadership import Leadership
from embed_star.produce.reconcile_slice import ReconcileSlice
from embed_star.produce.sweep import Sweep
from embed_star.settings import Settings
from tasks.base import ServiceTask
from tasks.dispatch import CeleryDispatcher

log = structlog.get_logger(__name__)

EXPECTED: dict[str, Any] = {
    "shared": False,  # with other apps of this process
    "ignore_result": True,
    # An outage, or a table that cannot be walked, needs no traceback: beat starts the task
    # again anyway.
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
        swept = Sweep(
            lock_table=services.store.locks,
            leadership=Leadership(
                services.leases, f"sweep:{task.request.id}", settings.leader_lease_s
            ),
            backlog=services.backlog(CeleryDispatcher(app)),
            timestamps=services.store.timestamps,
        ).run()
        log.info("swept", cleared_locks=swept.cleared_locks, dispatched=swept.dispatched)

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.reconcile", bind=True, **EXPECTED
    )
    def reconcile(task: ServiceTask) -> None:
        """Do a slice of the walk when one is due and the backfill lane has room."""
        services = task.services
        walked = ReconcileSlice(
            services.reconciler,
            services.store.space_watch,
            interval_s=settings.reconcile_interval_s,
            stopping=lambda: services.shutdown.begun,
        ).run()
        if walked is not None:
            counts = {"checked": walked.checked, "removed": walked.removed}
            log.info("reconciled", phase=walked.phase.value, **counts)

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.maintain_index", bind=True, **EXPECTED
    )
    def maintain_index(task: ServiceTask) -> None:
        """Begin to build the HNSW index of each table once it pays and the backlog is done."""
        store = task.services.store
        for table in (store.vectors, store.passages):
            if vector_index.build_if_due(table, store.outbox, store.database):
                log.info("index_begun", space=task.services.space.name)
