"""The slots of a worker's pool that no task gives back any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.worker import state

from tasks.workarounds.thread_slots import ThreadPool

LOST_AFTER_S = 5.0
"""A request that the pool does not have for so long is lost; it is there in the same turn."""


class Slots:
    """Compares the requests that hold a slot with what the pool works at.

    Celery takes a message only while it counts fewer requests than slots: a request whose task
    has ended without a word holds its slot for ever, and a worker of such ones is deaf.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`longest_s`: no task may run for longer."""
        self._longest_s = longest_s
        self._clock = clock
        self._worker: Any = None
        self._unaccounted = 0
        self._since: float | None = None

    def watch(self, worker: Any) -> None:
        """Celery's worker, once it has its pool."""
        self._worker = worker

    def look(self) -> None:
        """Every second, in the consumer's loop, which is the one that fills the pool."""
        at_work = _at_work(self._worker)
        self._unaccounted = 0 if at_work is None else len(state.reserved_requests) - at_work
        if self._unaccounted <= 0:
            self._since = None
        elif self._since is None:
            self._since = self._clock()

    def lost(self) -> int:
        """How many are not given back. Any thread may ask."""
        since = self._since
        unaccounted = since is not None and self._clock() - since >= LOST_AFTER_S
        overdue = sum(time.time() - began > self._longest_s for began in begun())
        return (max(0, self._unaccounted) if unaccounted else 0) + overdue

    def missing(self) -> dict[str, str]:
        """Why it takes fewer tasks than it should; empty when all slots are in use or free."""
        lost = self.lost()
        if not lost:
            return {}
        size = self._worker.pool.num_processes if self._worker else lost
        return {"slots": f"{lost} of {size} slots are not given back; start the worker anew"}

    def stuck(self) -> dict[str, str]:
        """The same once none is left, and it takes no task at all."""
        missing = self.missing()
        return missing if missing and self.lost() >= self._worker.pool.num_processes else {}


def begun() -> list[float]:
    """When the running tasks began, seconds since 1970."""
    for _ in range(3):
        try:
            requests = list(state.active_requests)
        except RuntimeError:  # it changed meanwhile
            continue
        return [one.time_start for one in requests if one.time_start]
    return []


def _at_work(worker: Any) -> int | None:
    """What the pool has, with what waits for it; None of a pool that does not tell."""
    pool = worker.pool if worker else None
    if isinstance(pool, ThreadPool):
        return pool.busy
    if isinstance(pool, ProcessPool) and pool._pool is not None:
        waiting = worker.semaphore._waiting if worker.semaphore else ()
        return len(pool._pool._cache) + len(waiting)
    return None
