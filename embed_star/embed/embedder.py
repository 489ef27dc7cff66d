"""What `embed_batch` does, with no Celery in it: load → sort → cache → bisect → outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from embed_star.claims.claims import Claim, Claims
from embed_star.coordination.cache import VectorCache
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.embed.bisection import BisectionResult, Bisector
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
from embed_star.store.tables.repos import Repos
from embed_star.store.tables.space_watch import SpaceWatch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers that the pipeline goes by."""

    text_max_tokens: int
    defer_max_s: float
    """The longest that a throttled batch is tried again after."""
    redelivered_s: float
    """Redis hands out a message again when it is not acknowledged for so long."""


class Embedder:
    """Turns a claimed batch into outcomes; the vectors are in the cache then."""

    def __init__(
        self,
        *,
        repos: Repos,
        claims: Claims,
        ledger: InFlightLedger,
        cache: VectorCache,
        bisector: Bisector,
        space_watch: SpaceWatch,
        limits: Limits,
    ) -> None:
        self._repos = repos
        self._claims = claims
        self._ledger = ledger
        self._cache = cache
        self._bisector = bisector
        self._space_watch = space_watch
        self._limits = limits

    def embed(self, batch: Batch, *, final: bool = True) -> list[Outcome]:
        """What became of each row of `batch`, in its order.

        Rows that the run no longer holds are LOST and not paid for, so a message that
        comes twice costs nothing. A provider's fault leaves rows DEFERRED: still pending,
        their locks the pause until the next try; those that a paused provider keeps
        waiting are unlocked at once. Raises TransientError only when not `final`, and not
        for a pause; what was paid for is in the cache by then. Raises ProviderThrottled,
        `final` or not, for a wait that the rows' locks were extended over: to be tried
        again after it, which is no failed attempt. Batches of a retired space are unlocked
        and DEFERRED; raises AnotherSpace for one that others are to embed.
        """
        try:
            if self._space_watch.is_over(batch.space):
                return self._let_go(batch)
            while True:
                claim, items = self._load(batch)
                work = [one for one in items if isinstance(one, Work)]
                cached = self._cache.get_shared(one.hash for one in work) if work else {}
                missing = {one.hash: one.text for one in work if one.hash not in cached}
                result = BisectionResult()
                if missing:
                    result = self._bisector.begin(missing, claim).run()
                if isinstance(result.stopped, FenceLost):
                    # Fewer rows each time, so it ends. What was paid for is in the cache.
                    log.warning("locks_lost", reason=str(result.stopped), run_id=batch.run_id)
                    continue
                why = _why_waiting(result.stopped, len(claim.keys), final)
                found = outcomes(items, cached, result, why_waiting=why, source=self._cache.source)
                self._release_waiting(batch.run_id, found, result.stopped)
                return found
        except TransientError as error:
            return self._defer(batch, error, final)

    def started(self, batch: Batch, message: str, *, rows: int) -> bool:
        """Note that `message` has left the queue, with `rows` of its rows for the first time.

        False when it had before: this is a copy, and whoever has the other is paying for it.
        Without Redis nothing is noted, and none is known to be a copy.
        """
        try:
            return self._ledger.start(batch.run_id, rows, message, self._limits.redelivered_s)
        except RedisUnavailable as error:
            log.warning("run_not_counted", reason=str(error))
            return True

    def _let_go(self, batch: Batch) -> list[Outcome]:
        """Unlock the rows of a retired space."""
        log.info("batch_of_a_retired_space", rows=len(batch.rows))
        with suppress(RedisUnavailable):
            self._claims.release([row.key for row in batch.rows], batch.run_id)
        return _all(batch.rows, Status.DEFERRED, "space retired")

    def _defer(self, batch: Batch, error: TransientError, final: bool) -> list[Outcome]:
        """All rows DEFERRED; raises `error` when the batch itself is to be tried again."""
        if isinstance(error, ProviderThrottled):
            wait_s = error.retry_after_s
            if wait_s is not None and wait_s <= self._limits.defer_max_s:
                self._renew(batch)
                raise error
        elif not final:
            raise error
        log.warning("batch_deferred", reason=str(error), rows=len(batch.rows))
        return _all(batch.rows, Status.DEFERRED, type(error).__name__)

    def _load(self, batch: Batch) -> tuple[Claim, list[Work | Outcome]]:
        """Load and sort the rows; the claim is on those that need a vector."""
        asked = self._claims.clock()
        states = self._repos.load([row.key for row in batch.rows], batch.run_id)
        items = sort(batch.rows, states, self._limits.text_max_tokens)
        work = [one for one in items if isinstance(one, Work)]
        left_s = min((one.state.lock_left_s or 0.0 for one in work), default=0.0)
        keys = [one.row.key for one in work]
        return Claim(self._claims, batch.run_id, keys, until=asked + left_s), items

    def _release_waiting(
        self, run_id: str, found: Sequence[Outcome], stopped: EmbedStarError | None
    ) -> None:
        """Unlock rows that are not embedded here: after a pause, or by another process now.

        The producer claims nothing in a pause: there is no going round in circles.
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
    """Why texts that were neither embedded nor refused wait.

    Raises what is to be tried again soon, or is no fault of the provider.
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
