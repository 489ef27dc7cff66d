"""What `embed_batch` does, with no Celery in it.

Load the rows, render their texts, look in the cache, pay for the rest, validate, cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from embed_star.claims.claims import Claim, Claims
from embed_star.coordination.cache import VectorCache
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.embed import text
from embed_star.embed.bisection import Buyer
from embed_star.errors import (
    FenceLost,
    ProviderError,
    ProviderPaused,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    ShuttingDown,
    TransientError,
)
from embed_star.models import Batch, Outcome, Pending, Status, key_text
from embed_star.store.tables.repos import Repos, RepoState
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


@dataclass(frozen=True, slots=True)
class _Work:
    """One row that needs a vector of this text."""

    row: Pending
    state: RepoState
    text: str
    hash: str
    cut: bool = False

    def outcome(self, status: Status, reason: str = "") -> Outcome:
        return Outcome(
            self.row,
            status,
            self.hash,
            replaces=self.state.stored_hash is not None,
            heals=self.state.recorded,
            reason=reason,
            cut=self.cut,
        )


@dataclass(frozen=True, slots=True)
class _Bought:
    """What came of asking the provider; the vectors are in the cache."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Text hash → reason of those that cannot be embedded."""
    waiting: AbstractSet[str] = frozenset()
    """Hashes of those that were not embedded because of the provider."""
    why: str = ""
    paused: TransientError | None = None


class Embedder:
    """Turns a claimed batch into outcomes; the vectors are in the cache then."""

    def __init__(
        self,
        *,
        repos: Repos,
        claims: Claims,
        ledger: InFlightLedger,
        cache: VectorCache,
        buyer: Buyer,
        space_watch: SpaceWatch,
        limits: Limits,
    ) -> None:
        self._repos = repos
        self._claims = claims
        self._ledger = ledger
        self._cache = cache
        self._buyer = buyer
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
                log.info("batch_of_a_retired_space", rows=len(batch.rows))
                with suppress(RedisUnavailable):
                    self._claims.release([row.key for row in batch.rows], batch.run_id)
                return _all(batch.rows, Status.DEFERRED, "space retired")
            return self._embed(batch, final)
        except ProviderThrottled as error:
            wait_s = error.retry_after_s
            if wait_s is not None and wait_s <= self._limits.defer_max_s:
                self._renew(batch)
                raise
            log.warning("batch_deferred", reason=str(error), rows=len(batch.rows))
            return _all(batch.rows, Status.DEFERRED, type(error).__name__)
        except TransientError as error:
            if not final:
                raise
            log.warning("batch_deferred", reason=str(error), rows=len(batch.rows))
            return _all(batch.rows, Status.DEFERRED, type(error).__name__)

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

    def _embed(self, batch: Batch, final: bool) -> list[Outcome]:
        while True:
            try:
                return self._embed_held(batch, final)
            except FenceLost as error:
                # Fewer each time, so it ends. What was paid for is in the cache.
                log.warning("locks_lost", reason=str(error), run_id=batch.run_id)

    def _embed_held(self, batch: Batch, final: bool) -> list[Outcome]:
        """As `embed`, of the rows whose locks are the run's. Raises FenceLost, nothing paid
        for them, when some are another run's by the time the provider is to be called."""
        asked = self._claims.clock()
        states = self._repos.load([row.key for row in batch.rows], batch.run_id)
        outcomes: dict[str, Outcome] = {}
        work: list[_Work] = []
        for row, state in zip(batch.rows, states, strict=True):
            sorted_out = self._sort_out(row, state)
            if isinstance(sorted_out, _Work):
                work.append(sorted_out)
            else:
                outcomes[key_text(row.key)] = sorted_out
        left_s = min((one.state.lock_left_s or 0.0 for one in work), default=0.0)
        keys = [one.row.key for one in work]
        claim = Claim(self._claims, batch.run_id, keys, until=asked + left_s)
        for outcome in self._from_cache_or_provider(claim, work, final):
            outcomes[key_text(outcome.row.key)] = outcome
        return [outcomes[key_text(row.key)] for row in batch.rows]

    def _sort_out(self, row: Pending, state: RepoState) -> Outcome | _Work:
        if state.lock_left_s is None:
            return Outcome(row, Status.LOST)
        if state.unreadable:
            known = Status.UNCHANGED if state.failed_hash == "" else Status.FAILED
            return _Work(row, state, "", "").outcome(known, "unreadable")
        if state.values is None:
            return Outcome(row, Status.GONE)
        whole = text.whole(state.values)
        rendered = text.cut(whole, self._limits.text_max_tokens)
        cut = len(rendered) < len(whole)
        work = _Work(row, state, rendered, text.text_hash(rendered), cut)
        if work.hash == state.settled_hash:
            return work.outcome(Status.UNCHANGED)
        if not rendered:
            return work.outcome(Status.FAILED, "empty_text")
        return work

    def _from_cache_or_provider(
        self, claim: Claim, work: Sequence[_Work], final: bool
    ) -> Iterator[Outcome]:
        if not work:
            return
        cached = self._cache.get_shared(one.hash for one in work)
        missing = {one.hash: one.text for one in work if one.hash not in cached}
        bought = self._buy(claim, missing, final) if missing else _Bought()
        if bought.paused is not None:
            waiting = [one.row for one in work if one.hash in bought.waiting]
            self._give_back(claim, waiting, bought.paused)
        for one in work:
            if one.hash in cached:
                yield replace(one.outcome(Status.CACHED), source=self._cache.source)
            elif one.hash in bought.waiting:
                yield one.outcome(Status.DEFERRED, bought.why)
            elif one.hash in bought.refused:
                yield one.outcome(Status.FAILED, bought.refused[one.hash])
            else:
                yield replace(one.outcome(Status.EMBEDDED), source=self._cache.source)

    def _buy(self, claim: Claim, missing: Mapping[str, str], final: bool) -> _Bought:
        """Pay for `missing` (hash → text). Raises what is to be tried again soon."""
        purchase = self._buyer.purchase(claim.renew)
        paused: TransientError | None = None
        try:
            purchase.make(missing)
        except ProviderPaused as error:
            paused, why = error, "paused"
        except ShuttingDown as error:
            paused, why = error, "shutdown"
        except ProviderThrottled:
            raise
        except ProviderUnavailable as error:
            if not final:
                raise
            why = type(error).__name__
            log.warning("batch_deferred", reason=str(error), rows=len(claim.keys))
        except ProviderError as error:
            why = type(error).__name__
            log.error("batch_deferred", reason=str(error), rows=len(claim.keys))
        else:
            return _Bought(purchase.refused, purchase.put_off, "throttled")
        waiting = missing.keys() - self._cache.get_many(missing).keys() - purchase.refused.keys()
        return _Bought(purchase.refused, waiting, why, paused)

    def _give_back(self, claim: Claim, rows: Sequence[Pending], error: TransientError) -> None:
        """Unlock rows that are not embedded here: after a pause, or by another process now.

        The producer claims nothing in a pause: there is no going round in circles.
        """
        keys = [row.key for row in rows]
        wait_s = error.retry_in_s if isinstance(error, ProviderPaused) else 0.0
        log.info("rows_wait", reason=str(error), rows=len(keys), retry_in_s=wait_s)
        with suppress(RedisUnavailable):
            self._claims.release(keys, claim.run_id)
            if isinstance(error, ShuttingDown):
                self._ledger.give_back(claim.run_id, len(keys))

    def _renew(self, batch: Batch) -> None:
        try:
            self._claims.renew([row.key for row in batch.rows], batch.run_id)
        except TransientError as error:
            log.warning("locks_not_extended", reason=str(error))  # they may end meanwhile


def _all(rows: Sequence[Pending], status: Status, reason: str) -> list[Outcome]:
    return [Outcome(row, status, reason=reason) for row in rows]
