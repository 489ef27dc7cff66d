"""The sweep: deletes old locks, and dispatches once if no producer leads."""

from __future__ import annotations

from dataclasses import dataclass

from embed_star.produce.backlog import Backlog
from embed_star.produce.leadership import Leadership
from embed_star.store.tables.checkpoints import SWEPT, Timestamps
from embed_star.store.tables.locks import LockTable

DEAD_LOCK_S = 3600.0
"""Expired locks that no run has taken are deleted after this time."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of one sweep."""

    cleared_locks: int
    dispatched: int
    """Rows; 0 while a producer leads."""


class Sweep:
    """Runs from time to time, beside any number of producers and other sweeps.

    Example: the producer's host is down. Each sweep then leads for one dispatch, so rows
    are embedded with SWEEP_INTERVAL_S of delay instead of none.
    """

    def __init__(
        self,
        *,
        lock_table: LockTable,
        leadership: Leadership,
        backlog: Backlog,
        timestamps: Timestamps,
    ) -> None:
        self._lock_table = lock_table
        self._leadership = leadership
        self._backlog = backlog
        self._timestamps = timestamps

    def run(self) -> Swept:
        """Sweep once and note the time. A second call does no harm.

        Raises RedisUnavailable, StoreUnavailable and StoreError; the time is then not noted.
        """
        cleared = self._lock_table.sweep(DEAD_LOCK_S)
        dispatched = self._dispatch() if self._leadership.hold() else 0
        self._timestamps.set(SWEPT)
        return Swept(cleared, dispatched)

    def _dispatch(self) -> int:
        try:
            return self._backlog.dispatch().dispatched
        finally:
            self._leadership.resign()
