"""The backlog: pending rows, dispatched in runs as far as flow control allows."""

from __future__ import annotations

from typing import NamedTuple

from embed_star.models import Lane
from embed_star.produce.flow_control import FlowControl
from embed_star.produce.lanes import PAGE_ROWS, Lanes, Page
from embed_star.produce.runs import RunStarter
from embed_star.shutdown import Shutdown
from embed_star.store.tables.space_watch import SpaceWatch


class Tick(NamedTuple):
    """The result of one dispatch, in rows."""

    dispatched: int
    in_flight: int
    """Rows in flight in the whole fleet, with those just dispatched."""
    paused_s: float = 0.0
    """Seconds until the provider may be called; 0: now."""
    gather: bool = False
    """Whether the next rows may wait for more rows: every worker is busy, and a small run costs a
    provider call just as a full one does."""


class Backlog:
    """Dispatches pending rows, fresh ones first.

    Not thread-safe, and meant for the one process that leads. Two at once do no harm, since
    locks separate them, but do the work twice.
    """

    def __init__(
        self,
        *,
        lanes: Lanes,
        flow: FlowControl,
        runs: RunStarter,
        space_watch: SpaceWatch,
        shutdown: Shutdown,
    ) -> None:
        self._lanes = lanes
        self._flow = flow
        self._runs = runs
        self._space_watch = space_watch
        self._shutdown = shutdown

    def rewind(self) -> None:
        """Read the lanes from their beginning again: see `Lanes.rewind`."""
        self._lanes.rewind()

    def is_retired(self) -> bool:
        """Whether another space is the active one. Raises StoreUnavailable."""
        return self._space_watch.is_retired()

    def has_queued_rows(self) -> bool:
        """Whether dispatched rows still wait for a worker. Raises RedisUnavailable."""
        return self._flow.has_queued_rows()

    def dispatch(self) -> Tick:
        """Start as many runs as flow control allows; none when the space is retired.

        Ends after the current run when the process is to end. Raises RedisUnavailable and
        StoreUnavailable. Rows that were claimed and not dispatched are then released, or
        free when their locks end.
        """
        while self._runs.release_unsure():
            self.rewind()
        allowance = self._flow.allowance()
        if allowance.rows_came_back:  # told once, so before anything that may fail
            self.rewind()
        if self.is_retired():
            return Tick(0, allowance.in_flight)
        dispatched = 0
        for lane, room in allowance.rooms.items():
            dispatched += self._dispatch_lane(lane, room - dispatched)
        gather = allowance.queued > 0 and 0 < dispatched < self._flow.limits.run_rows
        return Tick(dispatched, allowance.in_flight + dispatched, allowance.paused_s, gather)

    def _dispatch_lane(self, lane: Lane, room: int) -> int:
        limits = self._flow.limits
        dispatched = 0
        # Less than a batch waits for the next tick: half-empty calls cost the most.
        least = min(limits.batch_rows, PAGE_ROWS, limits.max_in_flight_rows)
        while room - dispatched >= least and not self._shutdown.begun:
            page = self._lanes.read(lane, min(PAGE_ROWS, room - dispatched))
            if page is None:
                break
            dispatched += self._start_runs(page)
            self._lanes.advance(page)
            if page.is_last:
                break
        return dispatched

    def _start_runs(self, page: Page) -> int:
        size = self._flow.limits.run_rows
        dispatched = 0
        for start in range(0, len(page.rows), size):
            if self._shutdown.begun:
                break
            dispatched += self._runs.start(page.lane, page.rows[start : start + size])
        return dispatched
