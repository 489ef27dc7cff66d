"""From pending rows to runs under way: claim, batch, dispatch; and reconcile."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from embed_star.calling.breaker.breaker import Breaker, Phase
from embed_star.calling.rate_limit.rate_limiter import RateLimiter
from embed_star.claims.claims import Claims
from embed_star.coordination.in_flight import InFlightLedger, RunCounts
from embed_star.embed import text
from embed_star.embed.batching import batches
from embed_star.errors import RedisUnavailable
from embed_star.events import Emit, RunDispatched, ignore_event
from embed_star.models import Batch, Lane, Pending, Space
from embed_star.shutdown import Shutdown
from embed_star.store.tables import outbox as outbox_store
from embed_star.store.tables.outbox import Outbox
from embed_star.store.tables.space_watch import SpaceWatch

log = structlog.get_logger(__name__)

PAGE_ROWS = 500
"""Outbox records one query reads: 0.02 ms each on 3.3.5, so a page is 10 ms."""

OVERLAP_MS = 500
"""How far behind the present reading begins again at a lane's end: a slow transaction
commits its record behind records that are younger. `rewind` finds the slower ones."""


class Dispatcher(Protocol):
    """Hands a run to the workers."""

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        """Enqueue `batches` (of one run) and the bulk write after them.

        Raises RedisUnavailable; whether the run was enqueued is then unknown.
        """


@dataclass(frozen=True, slots=True)
class FlowControl:
    """How much may be under way."""

    batch_rows: int
    batch_tokens: int
    text_tokens: int
    """A text is cut there: a longer one costs no more."""
    chord_batches: int
    max_in_flight_rows: int
    window_s: float
    """Rows waiting in the queue are at most what the fleet does in this time."""
    limit_rows_s: float = math.inf
    """Rows a second that the provider's rate limit lets through, in full batches."""

    @property
    def run_rows(self) -> int:
        """Rows of a full run."""
        return self.batch_rows * self.chord_batches


class Turn(NamedTuple):
    """What one look at the backlog came to, in rows."""

    dispatched: int
    in_flight: int
    """Of the whole fleet, with those just dispatched."""
    paused_s: float = 0.0
    """How long the provider is not to be called, so that nothing was claimed; 0: it may be."""
    gather: bool = False
    """Whether the next rows may gather: every worker has work waiting already, and a run of
    few rows takes a call of the provider as a full one does."""


class Throughput:
    """Rows a second that the fleet finishes, smoothed over a few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, int] | None = None
        self.rows_s = 0.0

    def update(self, finished_total: int) -> float:
        """Take a new reading of the total; the rate."""
        now = self._clock()
        if self._last is None or finished_total < self._last[1]:  # Redis was wiped
            self._last = (now, finished_total)
            return self.rows_s
        passed = now - self._last[0]
        if passed >= 0.5:
            rate = (finished_total - self._last[1]) / passed
            weight = min(1.0, passed / 2.0)
            self.rows_s += (rate - self.rows_s) * weight
            self._last = (now, finished_total)
        return self.rows_s


class Backlog:
    """Claims pending rows, fresh ones first, and dispatches them in runs.

    Not thread-safe, and meant for the one process that leads: two at once would do no
    harm (both lock layers keep them apart), but twice the work.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        claims: Claims,
        ledger: InFlightLedger,
        breaker: Breaker,
        dispatcher: Dispatcher,
        space: Space,
        space_watch: SpaceWatch,
        flow: FlowControl,
        budget: RateLimiter,
        grace: Shutdown,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        emit: Emit = ignore_event,
    ) -> None:
        self._outbox = outbox
        self._claims = claims
        self._ledger = ledger
        self._breaker = breaker
        self._dispatcher = dispatcher
        self._space = space
        self._space_watch = space_watch
        self._flow = flow
        self._budget = budget
        self._grace = grace
        self._throughput = Throughput(clock)
        self._clock = clock
        self._emit = emit
        self._wall_clock = wall_clock
        self._after = dict.fromkeys(Lane, "")
        self._paused = False  # the provider, at the last look

    def rewind(self) -> None:
        """Read both lanes from their beginning again.

        Finds rows whose locks ended without a result, and records that were committed
        late.
        """
        self._after = dict.fromkeys(Lane, "")

    def is_retired(self) -> bool:
        """Whether another space is the active one. Raises StoreUnavailable."""
        return self._space_watch.is_retired()

    def dispatch(self) -> Turn:
        """Claim and enqueue what there is room for; nothing while the provider is paused.

        Nothing either when the space is retired. Ends after the run that it is at when the
        process is to end.

        When it may be tried again, one batch goes out, whose worker does that. Raises
        RedisUnavailable and StoreUnavailable. Whatever was claimed and not enqueued by
        then is given back, or ends with its locks.
        """
        counts = self._ledger.counts()
        while self._claims.release_unsure():
            self.rewind()
        if self.is_retired():
            return Turn(0, counts.in_flight)
        rate = self._throughput.update(counts.finished_total)
        breaker = self._breaker.state()
        paused, self._paused = self._paused, breaker.phase is not Phase.CLOSED
        if paused or self._paused:
            self.rewind()  # what was given back in a pause lies behind
        if breaker.retry_in_s:
            return Turn(0, counts.in_flight, breaker.retry_in_s)
        if self._budget.state().paused_s > self._flow.window_s:
            return Turn(0, counts.in_flight)  # their locks would end before their turn
        dispatched = 0
        for lane in Lane:
            if breaker.phase is Phase.HALF_OPEN:
                room = self._flow.batch_rows - counts.queued - dispatched
            else:
                room = self._room(counts, rate, lane) - dispatched
            dispatched += self._dispatch_lane(lane, room)
        gather = counts.queued > 0 and 0 < dispatched < self._flow.run_rows
        return Turn(dispatched, counts.in_flight + dispatched, gather=gather)

    def _room(self, counts: RunCounts, rate: float, lane: Lane) -> int:
        pace = self._flow
        may_wait = max(2 * pace.run_rows, round(rate * pace.window_s))
        # What the provider will not let through in this time would only hold locks.
        served = max(pace.batch_rows, min(pace.limit_rows_s * pace.window_s, may_wait))
        room = min(pace.max_in_flight_rows - counts.in_flight, int(served) - counts.queued)
        # One run's room is kept for fresh rows, which also overtake in the queue.
        return room + min(pace.run_rows, int(served)) if lane is Lane.FRESH else room

    def _dispatch_lane(self, lane: Lane, room: int) -> int:
        dispatched = 0
        # Less than a batch is left for the next ring: half-empty calls cost the most.
        least = min(self._flow.batch_rows, PAGE_ROWS, self._flow.max_in_flight_rows)
        while room - dispatched >= least and not self._grace.begun:
            rows = min(PAGE_ROWS, room - dispatched)
            entries = self._outbox.page(lane, self._after[lane], rows)
            if not entries:
                break
            unusable = [entry.id for entry in entries if entry.key is None]
            if unusable:
                log.error("keys_not_usable", rows=len(unusable))
                self._outbox.set_aside(unusable, self._space)
            dispatched += self._claim_and_dispatch(lane, entries)
            self._after[lane] = entries[-1].id[1]
            if len(entries) < rows:
                self._after[lane] = min(entries[-1].id[1], self._recently())
                break
        return dispatched

    def _claim_and_dispatch(self, lane: Lane, entries: Sequence[outbox_store.Entry]) -> int:
        pending = [Pending(key, ids, size) for key, ids, size in outbox_store.group(entries)]
        dispatched = 0
        for rows in _slices(pending, self._flow.run_rows):
            if self._grace.begun:
                break
            dispatched += self._start_run(lane, rows)
        return dispatched

    def _recently(self) -> str:
        return outbox_store.ulid_of_ms(round(self._wall_clock() * 1000) - OVERLAP_MS)

    def _start_run(self, lane: Lane, rows: Sequence[Pending]) -> int:
        run_id = secrets.token_hex(16)
        started = self._clock()
        won = self._claim(rows, run_id)
        claimed = self._clock()
        if not won:
            return 0
        made = [
            Batch(run_id, secrets.token_hex(8), self._space.name, tuple(group))
            for group in batches(
                won,
                max_rows=self._flow.batch_rows,
                max_cost=self._flow.batch_tokens,
                cost=self._estimate,
            )
        ]
        try:
            self._ledger.begin(run_id, len(won), 2 * self._claims.ttl_s)
            self._dispatcher.dispatch(made, lane)
        except BaseException:
            self._give_back(won, run_id)
            raise
        log.debug("run_dispatched", run_id=run_id, lane=lane.name, rows=len(won))
        dispatch_s = self._clock() - claimed
        oldest_ms = outbox_store.ulid_ms(min(ulid for row in won for _, ulid in row.outbox))
        self._emit(
            RunDispatched(
                run_id, lane, len(won), len(made), oldest_ms, claimed - started, dispatch_s
            )
        )
        return len(won)

    def _estimate(self, row: Pending) -> int:
        """Tokens of the row's text, roughly: what is sent is measured again (see `purchase`)."""
        return min(row.size // text.BYTES_PER_TOKEN + 1, self._flow.text_tokens)

    def _claim(self, rows: Sequence[Pending], run_id: str) -> list[Pending]:
        won = self._claims.claim([row.key for row in rows], run_id)
        return [row for row, mine in zip(rows, won, strict=True) if mine]

    def _give_back(self, rows: Sequence[Pending], run_id: str) -> None:
        # If the run was enqueued all the same, its tasks find the locks gone.
        with suppress(RedisUnavailable):  # each call may take its whole time-out
            self._claims.release([row.key for row in rows], run_id)
            self._ledger.finish(run_id, {})


def _slices(rows: Sequence[Pending], size: int) -> Iterator[Sequence[Pending]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
