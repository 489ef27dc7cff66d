"""Starts runs: claims rows, cuts them into batches and dispatches these to the workers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from embed_star.claims.claims import Claims
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.embed import text
from embed_star.embed.batching import batches
from embed_star.errors import RedisUnavailable
from embed_star.events import Emit, RunDispatched, ignore_event
from embed_star.models import Batch, Key, Lane, Pending, Space
from embed_star.produce.flow_control import FlowLimits
from embed_star.store.tables.outbox import ulid_ms

log = structlog.get_logger(__name__)


class Dispatcher(Protocol):
    """Hands a run to the workers."""

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        """Enqueue `batches` (of one run) and the bulk write after them.

        Raises RedisUnavailable; it is then unknown whether the run was enqueued.
        """


class RunStarter:
    """Starts one run after another. Not thread-safe."""

    def __init__(
        self,
        *,
        claims: Claims,
        ledger: InFlightLedger,
        dispatcher: Dispatcher,
        space: Space,
        limits: FlowLimits,
        on_started: Callable[[str, Sequence[Key]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = ignore_event,
    ) -> None:
        self._claims = claims
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._space = space
        self._limits = limits
        self._on_started = on_started
        self._clock = clock
        self._emit = emit

    def release_unsure(self) -> bool:
        """Release a claim whose answer was lost; False when there is none.

        Raises RedisUnavailable and StoreUnavailable.
        """
        return self._claims.release_unsure()

    def start(self, lane: Lane, rows: Sequence[Pending]) -> int:
        """Start a run of those of `rows` that can be claimed; how many.

        Raises RedisUnavailable and StoreUnavailable. Rows that were claimed and not
        dispatched are then released, or free when their locks end.
        """
        run_id = secrets.token_hex(16)
        started = self._clock()
        won = self._claim(rows, run_id)
        claimed = self._clock()
        if not won:
            return 0
        made = self._batches(won, run_id)
        try:
            self._ledger.begin(run_id, len(won), 2 * self._claims.ttl_s)
            self._dispatcher.dispatch(made, lane)
        except BaseException:
            self._release(won, run_id)
            raise
        if self._on_started is not None:
            self._on_started(run_id, [row.key for row in won])
        log.debug("run_dispatched", run_id=run_id, lane=lane.name, rows=len(won))
        dispatch_s = self._clock() - claimed
        oldest_ms = ulid_ms(min(ulid for row in won for _, ulid in row.outbox))
        self._emit(
            RunDispatched(
                run_id, lane, len(won), len(made), oldest_ms, claimed - started, dispatch_s
            )
        )
        return len(won)

    def _claim(self, rows: Sequence[Pending], run_id: str) -> list[Pending]:
        won = self._claims.claim([row.key for row in rows], run_id)
        return [row for row, is_won in zip(rows, won, strict=True) if is_won]

    def _batches(self, rows: Sequence[Pending], run_id: str) -> list[Batch]:
        groups = batches(
            rows,
            max_rows=self._limits.batch_rows,
            max_cost=self._limits.batch_tokens,
            cost=self._estimate,
        )
        return [Batch(run_id, secrets.token_hex(8), self._space.name, tuple(one)) for one in groups]

    def _estimate(self, row: Pending) -> int:
        """Tokens of the row's text, roughly. The embedder counts again before a call."""
        return min(row.size // text.BYTES_PER_TOKEN + 1, self._limits.text_tokens)

    def _release(self, rows: Sequence[Pending], run_id: str) -> None:
        # If the run was enqueued all the same, its tasks find the locks gone.
        with suppress(RedisUnavailable):  # each call may take its whole time-out
            self._claims.release([row.key for row in rows], run_id)
            self._ledger.finish(run_id, {})
