"""Keeps a lost track of a child process from ending a worker.

Upstream: when several children of `-P processes` die at once, Celery 5.7.0 may take the end
of one for the end of its successor, whose file descriptor has the same number, and no
longer watches the successor. When the connection to Redis is made anew, Celery adds a
descriptor of None to its event loop, and the worker ends ("file descriptor is None").
Issue: celery/celery issue 9250 ends in the same place, for another reason.
Delete when: `AsynPool._track_child_process` opens a new sentinel for a child whose
`_sentinel_poll` is None, and ignores a child that has just ended.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import signals


def apply() -> None:
    """Use the corrected pool in the workers of this process. Twice changes nothing."""
    signals.worker_init.connect(_use_pool, weak=False, dispatch_uid="embed_star.prefork")


def _use_pool(**_: Any) -> None:
    # Imported here: only a worker needs it.
    from celery.concurrency import asynpool, prefork

    class Pool(asynpool.AsynPool):  # type: ignore[misc]  # Celery has no types
        """Watches each living child, even one that it believes dead."""

        def _track_child_process(self, proc: Any, hub: Any) -> None:
            if getattr(proc, "_sentinel_poll", 0) is None:
                del proc._sentinel_poll  # so that it is made again
            # A child that has just ended has none; the pool looks for those by itself.
            with suppress(OSError, AttributeError):
                super()._track_child_process(proc, hub)

    prefork.TaskPool.Pool = Pool
