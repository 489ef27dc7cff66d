"""Embeds one batch, without Celery: load → sort → cache → bisect → outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from embed_star.claims.claims import Claim, Claims
from embed_star.coordination.cache import VectorCache
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.embed.bisection import BisectionResult, Bisector
from embed_star.embed.turns import Turn
from embed_star.embed.work import Work, outcomes, sort
from embed_star.errors import (
    EmbedStarError,
    FenceLost,
    ProviderError,
    ProviderPaused,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    ShuttingDown,
    TransientError,
)
from embed_star.models import Batch, Key, Outcome, Pending, Status
from embed_star.store.tables.passages import Passages
from embed_star.store.tables.repos import Repos
from embed_star.store.tables.space_watch import SpaceWatch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an embedder."""

    text_max_tokens: int
    defer_max_s: float
    """Longest pause after which a throttled batch is tried again."""
    redelivered_s: float
    """How long a message may be unacknowledged before Redis hands it out again."""
    turn_s: float
    """How long a worker surely has its message after it asked; see `embed.turns.Turn`."""


class Embedder:
    """Turns a claimed batch into outcomes, and puts its vectors into the cache."""

    def __init__(
        self,
        *,
        repos: Repos,
        passages: Passages,
        claims: Claims,
        ledger: InFlightLedger,
        cache: VectorCache,
        bisector: Bisector,
        space_watch: SpaceWatch,
        limits: Limits,
    ) -> None:
        self._repos = repos
        self._passages = passages
        self._claims = claims
        self._ledger = ledger
        self._cache = cache
        self._bisector = bisector
        self._space_watch = space_watch
        self._limits = limits

    def embed(self, batch: Batch, *, final: bool = True, turn: Turn | None = None) -> list[Outcome]:
        """The outcome of each row of `batch`, in its order.

        Raises TakenOver before the next call, or at the end, when another worker has the
        message of `turn`; vectors that were paid for are in the cache by then.

        Rows that the run no longer holds are LOST and not paid for, so a message that comes
        twice costs nothing. Rows that a provider's fault keeps from being embedded are
        DEFERRED: they stay pending, and are claimed again when their locks end. Rows that wait
        for a paused provider are unlocked at once.

        Raises TransientError only when not `final`, and never for a pause; vectors that were
        paid for are in the cache by then. Raises ProviderThrottled, `final` or not, for a short
        wait: the rows' locks were renewed, and the batch is to be tried again after it, which
        counts as no attempt. Rows of a retired space are unlocked and DEFERRED. Raises
        AnotherSpace for a batch that workers of another space embed.
        """
        try:
            if self._space_watch.is_over(batch.space):
                return self._let_go(batch)
            while True:
                claim, items = self._load(batch, turn)
                work = [one for one in items if isinstance(one, Work)]
                texts = {one: said for row in work for one, said in row.texts.items()}
                cached = self._cache.get_shared(texts) if texts else {}
                missing = {one: said for one, said in texts.items() if one not in cached}
                result = BisectionResult()
                if missing:
                    result = self._bisector.begin(missing, claim).run()
                if isinstance(result.stopped, FenceLost):
                    # Fewer rows each time, so it ends. What was paid for is in the cache.
                    log.warning("locks_lost", reason=str(result.stopped), run_id=batch.run_id)
                    continue
                why = _why_waiting(result.stopped, len(claim.keys), final)
                found = outcomes(items, cached, result, why_waiting=why, source=self._cache.source)
                if turn is not None:
                    turn.check_at_end()
                self._release_waiting(batch.run_id, found, result.stopped)
                return found
        except TransientError as error:
            if turn is not None:  # else the message would be there twice
                turn.check_at_end()
            return self._defer(batch, error, final)

    def started(self, batch: Batch, message: str, *, again: bool = False) -> Turn | None:
        """Note that `message`, with the rows of `batch`, has left the queue.

        Returns None if it was noted before: this is a copy, and another worker has the first
        one. `again` says that Redis hands the message out again because that worker is dead.
        Returns a turn without Redis, where copies cannot be told.
        """
        clock, sure_s = self._claims.clock, self._limits.turn_s
        turn = Turn(self._ledger, batch.run_id, message, sure_s=sure_s, clock=clock)
        try:
            begun = turn.begin(len(batch.rows), self._limits.redelivered_s, again=again)
        except RedisUnavailable as error:
            log.warning("run_not_counted", reason=str(error))
            return turn
        return turn if begun else None

    def waits(self, batch: Batch) -> None:
        """Note that the message is to be tried again: its rows are queued until then.

        Otherwise the producer would claim ever more rows for a provider that lets none through.
        """
        try:
            self._ledger.put_back(batch.run_id, len(batch.rows))
        except RedisUnavailable as error:
            log.warning("run_not_counted", reason=str(error))

    def _let_go(self, batch: Batch) -> list[Outcome]:
        """Unlock the rows of a retired space."""
        log.info("batch_of_a_retired_space", rows=len(batch.rows))
        with suppress(RedisUnavailable):
            self._claims.release([row.key for row in batch.rows], batch.run_id)
        return _all(batch.rows, Status.DEFERRED, "space retired")

    def _defer(self, batch: Batch, error: TransientError, final: bool) -> list[Outcome]:
        """All rows as DEFERRED. Raises `error` when the batch is to be tried again instead."""
        if isinstance(error, ProviderThrottled):
            wait_s = error.retry_after_s
            if wait_s is not None and wait_s <= self._limits.defer_max_s:
                self._renew(batch)
                raise error
        elif not final:
            raise error
        log.warning("batch_deferred", reason=str(error), rows=len(batch.rows))
        return _all(batch.rows, Status.DEFERRED, type(error).__name__)

    def _load(self, batch: Batch, turn: Turn | None) -> tuple[Claim, list[Work | Outcome]]:
        """Load and sort the rows. The claim covers those that need a vector."""
        asked = self._claims.clock()
        states = self._repos.load([row.key for row in batch.rows], batch.run_id)
        items = self._with_readmes(sort(batch.rows, states, self._limits.text_max_tokens))
        work = [one for one in items if isinstance(one, Work)]
        left_s = min((one.state.lock_left_s or 0.0 for one in work), default=0.0)
        keys = [one.row.key for one in work]
        claim = Claim(self._claims, batch.run_id, keys, until=asked + left_s)
        if turn is not None:
            claim.check = turn.check
        return claim, items

    def _with_readmes(self, items: list[Work | Outcome]) -> list[Work | Outcome]:
        """`items`, where rows with READMEs have their passages.

        What is stored of them goes into the cache, so that only what an edit changed is paid for.
        """
        works = [one for one in items if isinstance(one, Work) and one.state.readme_hash]
        if not works:
            return items
        states = self._passages.load([(one.row.key, one.state.stored_passages) for one in works])
        most = self._limits.text_max_tokens
        read = [
            one.with_readme(state.readme, most) for one, state in zip(works, states, strict=True)
        ]
        self._cache.put_many(
            {
                one: vector
                for work, state in zip(read, states, strict=True)
                for one, vector in state.vectors.items()
                if one in work.texts
            }
        )
        left = iter(read)
        return [
            next(left) if isinstance(one, Work) and one.state.readme_hash else one for one in items
        ]

    def _release_waiting(
        self, run_id: str, found: Sequence[Outcome], stopped: EmbedStarError | None
    ) -> None:
        """Unlock the rows that wait, if the provider is paused or this process ends.

        During a pause the producer claims nothing, so the rows do not come back at once.
        """
        if not isinstance(stopped, ProviderPaused | ShuttingDown):
            return
        keys: list[Key] = [one.row.key for one in found if one.status is Status.DEFERRED]
        wait_s = stopped.retry_in_s if isinstance(stopped, ProviderPaused) else 0.0
        log.info("rows_wait", reason=str(stopped), rows=len(keys), retry_in_s=wait_s)
        with suppress(RedisUnavailable):
            self._claims.release(keys, run_id)
            if isinstance(stopped, ShuttingDown):
                self._ledger.give_back(run_id, len(keys))

    def _renew(self, batch: Batch) -> None:
        try:
            self._claims.renew([row.key for row in batch.rows], batch.run_id)
        except TransientError as error:
            log.warning("locks_not_extended", reason=str(error))  # they may end meanwhile


def _why_waiting(stopped: EmbedStarError | None, rows: int, final: bool) -> str:
    """Why the texts that were neither embedded nor refused have to wait.

    Raises `stopped` if the batch is to be tried again soon, or if it is not the provider's fault.
    """
    match stopped:
        case None:
            return "throttled"
        case ProviderPaused():
            return "paused"
        case ShuttingDown():
            return "shutdown"
        case ProviderUnavailable() if final and not isinstance(stopped, ProviderThrottled):
            log.warning("batch_deferred", reason=str(stopped), rows=rows)
        case ProviderError():
            log.error("batch_deferred", reason=str(stopped), rows=rows)
        case _:
            raise stopped
    return type(stopped).__name__


def _all(rows: Sequence[Pending], status: Status, reason: str) -> list[Outcome]:
    return [Outcome(row, status, reason=reason) for row in rows]
