"""Finds slots of a worker's pool that are lost: no task uses them, and no task can."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.worker import state

from tasks.workarounds.thread_slots import ThreadPool

LOST_AFTER_S = 5.0
"""A request that the pool has not known for this long is lost. A good one is known at once."""


class Slots:
    """Compares the requests that hold a slot with the tasks in the pool.

    Celery takes a message only while it counts fewer requests than slots. A request whose
    task ended unnoticed holds its slot for ever; a worker with only such requests takes
    nothing more. Example: 3 requests and 2 tasks in the pool, for 5 s: one slot is lost.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """A task that runs for more than `longest_s` has lost its slot, too."""
        self._longest_s = longest_s
        self._clock = clock
        self._worker: Any = None
        self._unaccounted = 0
        self._since: float | None = None

    def watch(self, worker: Any) -> None:
        """Look at this worker of Celery's from now on; it has its pool."""
        self._worker = worker

    def look(self) -> None:
        """Compare. To be called every second in the consumer's loop, which fills the pool."""
        at_work = _at_work(self._worker)
        self._unaccounted = 0 if at_work is None else len(state.reserved_requests) - at_work
        if self._unaccounted <= 0:
            self._since = None
        elif self._since is None:
            self._since = self._clock()

    def lost(self) -> int:
        """How many slots are lost. Any thread may ask."""
        since = self._since
        unaccounted = since is not None and self._clock() - since >= LOST_AFTER_S
        overdue = sum(time.time() - began > self._longest_s for began in begun())
        return (max(0, self._unaccounted) if unaccounted else 0) + overdue

    def missing(self) -> dict[str, str]:
        """The reason not to be ready, by name; empty when no slot is lost."""
        lost = self.lost()
        if not lost:
            return {}
        size = self._worker.pool.num_processes if self._worker else lost
        return {"slots": f"{lost} of {size} slots are not given back; start the worker anew"}

    def stuck(self) -> dict[str, str]:
        """The same once all slots are lost, and the worker takes no task at all."""
        missing = self.missing()
        return missing if missing and self.lost() >= self._worker.pool.num_processes else {}


def begun() -> list[float]:
    """The start of each running task, in seconds since 1970."""
    for _ in range(3):
        try:
            requests = list(state.active_requests)
        except RuntimeError:  # it changed meanwhile
            continue
        return [one.time_start for one in requests if one.time_start]
    return []


def _at_work(worker: Any) -> int | None:
    """How many tasks the pool has, with those that wait for it; None when it cannot tell."""
    pool = worker.pool if worker else None
    if isinstance(pool, ThreadPool):
        return pool.busy
    if isinstance(pool, ProcessPool) and pool._pool is not None:
        waiting = worker.semaphore._waiting if worker.semaphore else ()
        return len(pool._pool._cache) + len(waiting)
    return None
