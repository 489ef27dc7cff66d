"""Flow control: how many rows may be dispatched now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from embed_star.calling.breaker.breaker import Breaker, Phase
from embed_star.calling.rate_limit.rate_limiter import RateLimiter
from embed_star.coordination.in_flight import InFlightLedger, RunCounts
from embed_star.models import Lane
from embed_star.produce.throughput import Throughput

LIMITED_RUN_S = 1.0
"""Batches that the rate limit puts off take their turns in no order, and what is embedded holds
its locks until the last batch of its run. So a run is short where turns are rare."""


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """The sizes of batches and runs, and the limits of rows in flight."""

    batch_rows: int
    batch_tokens: int
    text_tokens: int
    """Texts are cut at this length, so none costs more."""
    chord_batches: int
    max_in_flight_rows: int
    window_s: float
    """The queue holds at most the rows that the fleet finishes in this time."""
    limit_rows_s: float = math.inf
    """Rows a second that the provider's rate limit lets through, in full batches."""

    @property
    def run_rows(self) -> int:
        """Rows of a full run: no more than the rate limit lets through in LIMITED_RUN_S."""
        batches = min(self.chord_batches, self.limit_rows_s * LIMITED_RUN_S // self.batch_rows)
        return self.batch_rows * max(1, int(batches))

    def room(self, counts: RunCounts, rate_rows_s: float, lane: Lane) -> int:
        """Rows that may be dispatched from `lane` while the fleet finishes `rate_rows_s`.

        For example, with runs of 400 rows, a window of 10 s and nothing in flight, the
        backfill lane has room for 800 rows in an idle fleet, and for 2,000 in one that
        finishes 200 rows a second. The fresh lane has room for 400 more.
        """
        may_wait = max(2 * self.run_rows, round(rate_rows_s * self.window_s))
        # Rows that the provider will not let through in this time would only hold locks.
        served = max(2 * self.run_rows, min(self.limit_rows_s * self.window_s, may_wait))
        room = min(self.max_in_flight_rows - counts.in_flight, int(served) - counts.queued)
        # The room of one run is kept for fresh rows, which also overtake in the queue.
        return room + self.run_rows if lane is Lane.FRESH else room


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be dispatched now."""

    in_flight: int
    queued: int
    rooms: Mapping[Lane, int]
    """Rows for each lane; those dispatched from another lane since count, too."""
    paused_s: float = 0.0
    """Seconds until the provider may be called; 0: now."""
    rows_came_back: bool = False
    """Whether a pause may have unlocked rows that lie before the place of reading."""


class FlowControl:
    """Derives the allowance from the ledger, the breaker and the rate limiter."""

    def __init__(
        self,
        *,
        ledger: InFlightLedger,
        breaker: Breaker,
        rate_limiter: RateLimiter,
        limits: FlowLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._ledger = ledger
        self._breaker = breaker
        self._rate_limiter = rate_limiter
        self._throughput = Throughput(clock)
        self._was_closed = True

    def has_queued_rows(self) -> bool:
        """Whether dispatched rows still wait for a worker. Raises RedisUnavailable."""
        return self._ledger.counts().queued > 0

    def allowance(self) -> Allowance:
        """What may be dispatched now. Raises RedisUnavailable.

        Nothing while the breaker is open, and nothing while the rate limiter pauses for
        longer than the window: the rows' locks would end before their turn. While the
        breaker is half-open, one batch, whose worker probes the provider.
        """
        counts = self._ledger.counts()
        rate_rows_s = self._throughput.update(counts.finished_total)
        breaker = self._breaker.state()
        paused = breaker.retry_in_s or self._rate_limiter.state().paused_s > self.limits.window_s
        # After the last answer of Redis: the end of a pause must not get lost with an error.
        was_closed, self._was_closed = self._was_closed, breaker.phase is Phase.CLOSED
        if paused:
            rooms = dict.fromkeys(Lane, 0)
        elif breaker.phase is Phase.HALF_OPEN:
            rooms = dict.fromkeys(Lane, self.limits.batch_rows - counts.queued)
        else:
            rooms = {lane: self.limits.room(counts, rate_rows_s, lane) for lane in Lane}
        return Allowance(
            counts.in_flight,
            counts.queued,
            rooms,
            paused_s=breaker.retry_in_s,
            rows_came_back=not (was_closed and self._was_closed),
        )
