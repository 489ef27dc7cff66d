"""Celery's pool of processes, cured of one fault: a lost track of a child must not end a worker."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import signals


def connect() -> None:
    """Have the workers of this process use the cured pool. Twice changes nothing."""
    signals.worker_init.connect(_cure, weak=False, dispatch_uid="embed_star.prefork")


def _cure(**_: Any) -> None:
    # Imported here: only a worker needs it.
    from celery.concurrency import asynpool, prefork

    class Pool(asynpool.AsynPool):  # type: ignore[misc]  # Celery has no types
        """Watches each child that lives, whatever it was told of it before.

        When several children die at once, Celery 5.7 may take the news of one for that of
        its successor, whose file descriptor has the same number, and no longer watches it.
        When the connection to Redis is made anew, it then adds a descriptor of None to its
        event loop, and the worker ends ("file descriptor is None").
        """

        def _track_child_process(self, proc: Any, hub: Any) -> None:
            if getattr(proc, "_sentinel_poll", 0) is None:
                del proc._sentinel_poll  # so that it is made again
            # One that has just ended has none; the pool looks for those by itself.
            with suppress(OSError, AttributeError):
                super()._track_child_process(proc, hub)

    prefork.TaskPool.Pool = Pool
