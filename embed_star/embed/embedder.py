"""What `embed_batch` and `store_embeddings` do, with no Celery in it.

Embedding: load the rows, render their texts, look in the cache, pay for the rest,
validate, cache. Storing: take the vectors by reference, write them in bulk, fenced.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from embed_star.claims.redis_locks import LockLayer
from embed_star.coordination.cache import Vector, VectorCache
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.embed import text
from embed_star.embed.bisection import Buyer
from embed_star.errors import (
    AlreadyExists,
    AnotherSpace,
    EmbedStarError,
    FenceLost,
    ProviderError,
    ProviderPaused,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    ShuttingDown,
    SpaceRetired,
    TransientError,
)
from embed_star.events import Emit, RowsLeft, RowsWritten, ignore_event
from embed_star.models import Batch, Key, Outcome, Pending, Space, Status, key_text
from embed_star.store.tables.locks import LockTable
from embed_star.store.tables.repos import Repos, RepoState
from embed_star.store.tables.space_watch import SpaceWatch
from embed_star.store.tables.vectors import BulkWrite, FailureWrite, Vectors, VectorWrite

log = structlog.get_logger(__name__)

STORE_ROWS = 200
"""Rows one transaction writes. 100 to 500 cost the same for each row on 3.3.5; more
cost more, and keep their neighbours' writes waiting."""

_FENCE_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers that the pipeline goes by."""

    text_max_tokens: int
    call_s: float
    """The longest that one provider call takes, its wait for a slot included."""
    lock_ttl_s: float
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


@dataclass(slots=True)
class _Held:
    """The rows of a batch that need a vector, by the run's locks on them."""

    run_id: str
    keys: Sequence[Key]
    until: float
    """When the first of the locks ends, by the embedder's clock."""


class Embedder:
    """Turns a claimed batch into outcomes; the vectors are in the cache then."""

    def __init__(
        self,
        *,
        repos: Repos,
        locks: LockLayer,
        lock_table: LockTable,
        ledger: InFlightLedger,
        cache: VectorCache,
        buyer: Buyer,
        space: Space,
        space_watch: SpaceWatch,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repos = repos
        self._locks = locks
        self._lock_table = lock_table
        self._ledger = ledger
        self._cache = cache
        self._buyer = buyer
        self._space = space
        self._space_watch = space_watch
        self._limits = limits
        self._clock = clock

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
            if _is_over(self._space_watch, self._space, batch.space):
                log.info("batch_of_a_retired_space", rows=len(batch.rows))
                self._unlock([row.key for row in batch.rows], batch.run_id)
                return _all(batch.rows, Status.DEFERRED, "space retired")
            return self._embed(batch, final)
        except ProviderThrottled as error:
            wait_s = error.retry_after_s
            if wait_s is not None and wait_s <= self._limits.defer_max_s:
                self._keep_locks(batch)
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
        asked = self._clock()
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
        held = _Held(batch.run_id, [one.row.key for one in work], asked + left_s)
        for outcome in self._from_cache_or_provider(held, work, final):
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
        self, held: _Held, work: Sequence[_Work], final: bool
    ) -> Iterator[Outcome]:
        if not work:
            return
        cached = self._cache.get_shared(one.hash for one in work)
        missing = {one.hash: one.text for one in work if one.hash not in cached}
        bought = self._buy(held, missing, final) if missing else _Bought()
        if bought.paused is not None:
            waiting = [one.row for one in work if one.hash in bought.waiting]
            self._give_back(held, waiting, bought.paused)
        for one in work:
            if one.hash in cached:
                yield replace(one.outcome(Status.CACHED), source=self._cache.source)
            elif one.hash in bought.waiting:
                yield one.outcome(Status.DEFERRED, bought.why)
            elif one.hash in bought.refused:
                yield one.outcome(Status.FAILED, bought.refused[one.hash])
            else:
                yield replace(one.outcome(Status.EMBEDDED), source=self._cache.source)

    def _buy(self, held: _Held, missing: Mapping[str, str], final: bool) -> _Bought:
        """Pay for `missing` (hash → text). Raises what is to be tried again soon."""
        purchase = self._buyer.purchase(lambda: self._outlast_call(held))
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
            log.warning("batch_deferred", reason=str(error), rows=len(held.keys))
        except ProviderError as error:
            why = type(error).__name__
            log.error("batch_deferred", reason=str(error), rows=len(held.keys))
        else:
            return _Bought(purchase.refused, purchase.put_off, "throttled")
        waiting = missing.keys() - self._cache.get_many(missing).keys() - purchase.refused.keys()
        return _Bought(purchase.refused, waiting, why, paused)

    def _outlast_call(self, held: _Held) -> None:
        """See to it that no lock ends while the provider is being waited for.

        Raises FenceLost when one is no longer the run's: this process stood still for
        longer than locks last, and whoever holds the row now pays for it.
        """
        now = self._clock()
        if held.until - now > self._limits.call_s + 1:
            return
        mine = self._lock_table.extend(held.keys, held.run_id, self._limits.lock_ttl_s)
        if not all(mine):
            raise FenceLost(f"{mine.count(False)} of {len(mine)} locks are another run's now")
        self._extend_in_redis(held.keys, held.run_id)
        held.until = now + self._limits.lock_ttl_s

    def _give_back(self, held: _Held, rows: Sequence[Pending], error: TransientError) -> None:
        """Unlock rows that are not embedded here: after a pause, or by another process now.

        The producer claims nothing in a pause: there is no going round in circles.
        """
        keys = [row.key for row in rows]
        wait_s = error.retry_in_s if isinstance(error, ProviderPaused) else 0.0
        log.info("rows_wait", reason=str(error), rows=len(keys), retry_in_s=wait_s)
        self._unlock(keys, held.run_id)
        if isinstance(error, ShuttingDown):
            with suppress(EmbedStarError):
                self._ledger.give_back(held.run_id, len(keys))

    def _unlock(self, keys: Sequence[Key], run_id: str) -> None:
        _unlock(self._lock_table, self._locks, keys, run_id)

    def _keep_locks(self, batch: Batch) -> None:
        keys = [row.key for row in batch.rows]
        try:
            self._lock_table.extend(keys, batch.run_id, self._limits.lock_ttl_s)
        except TransientError as error:
            log.warning("locks_not_extended", reason=str(error))  # they may end meanwhile
        self._extend_in_redis(keys, batch.run_id)

    def _extend_in_redis(self, keys: Sequence[Key], run_id: str) -> None:
        try:
            self._locks.extend(keys, run_id, self._limits.lock_ttl_s)
        except RedisUnavailable as error:
            log.warning("locks_not_extended", reason=str(error))  # the database's were


class Storer:
    """Writes what a run's batches found, in bulk."""

    def __init__(
        self,
        *,
        vectors: Vectors,
        locks: LockLayer,
        lock_table: LockTable,
        ledger: InFlightLedger,
        cache: VectorCache,
        space: Space,
        space_watch: SpaceWatch,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = ignore_event,
    ) -> None:
        self._vectors = vectors
        self._locks = locks
        self._lock_table = lock_table
        self._ledger = ledger
        self._cache = cache
        self._space = space
        self._space_watch = space_watch
        self._clock = clock
        self._emit = emit

    def store(
        self, run_id: str, outcomes: Sequence[Outcome], space: str | None = None
    ) -> Counter[Status]:
        """Write the outcomes of one run; rows by what became of them in the end.

        Twice, or late, changes nothing: rows whose lock is no longer the run's are left
        to whoever holds them. Raises TransientError; what is written then stays written.
        `space` names the run's. Rows of a retired one are unlocked and DEFERRED; raises
        AnotherSpace for a run that others are to store.
        """
        settled = [one for one in outcomes if one.status not in _LEFT_PENDING]
        tally = Counter(one.status for one in outcomes if one.status in _LEFT_PENDING)
        try:
            if _is_over(self._space_watch, self._space, space or self._space.name):
                raise SpaceRetired("the run's space is retired")
            for start in range(0, len(settled), STORE_ROWS):
                tally += self._store_some(run_id, settled[start : start + STORE_ROWS])
        except SpaceRetired:
            log.info("run_of_a_retired_space", rows=len(settled))
            _unlock(self._lock_table, self._locks, [one.row.key for one in settled], run_id)
            tally[Status.DEFERRED] += len(outcomes) - sum(tally.values())
        self._emit(RowsLeft(tally[Status.DEFERRED], tally[Status.LOST]))
        self._finish(run_id, settled, tally)
        return tally

    def _store_some(self, run_id: str, outcomes: Sequence[Outcome]) -> Counter[Status]:
        wanted: dict[str, list[str]] = {}
        for one in outcomes:
            if one.status in _WITH_VECTOR:
                wanted.setdefault(one.source, []).append(one.text_hash)
        found: dict[str, Vector] = {}
        for source, hashes in wanted.items():
            found |= self._cache.get_from(source, hashes)
        # Evicted between the two tasks: the row stays pending.
        ready = [
            one for one in outcomes if one.status not in _WITH_VECTOR or one.text_hash in found
        ]
        tally = Counter({Status.DEFERRED: len(outcomes) - len(ready)})
        written = self._write(run_id, ready, found)
        tally.update(one.status for one in written)
        tally[Status.LOST] += len(ready) - len(written)
        return tally

    def _write(
        self, run_id: str, outcomes: Sequence[Outcome], found: Mapping[str, Vector]
    ) -> Sequence[Outcome]:
        """Apply, leaving out what the run lost meanwhile; what was written."""
        write_all_stale = False
        for _ in range(_FENCE_ROUNDS):
            if not outcomes:
                break
            write = _bulk_write(run_id, outcomes, found)
            if write_all_stale:
                write = replace(write, stale=write.locks)
            started = self._clock()
            try:
                self._vectors.apply(write)
            except FenceLost:
                held = self._lock_table.held([one.row.key for one in outcomes], run_id)
                outcomes = [one for one, mine in zip(outcomes, held, strict=True) if mine]
            except AlreadyExists:
                # A vector came from elsewhere (a restored backup): replace it.
                write_all_stale = True
            else:
                self._emit(RowsWritten(outcomes, self._clock() - started))
                return outcomes
        return []

    def _finish(self, run_id: str, settled: Sequence[Outcome], tally: Counter[Status]) -> None:
        try:
            self._locks.release([one.row.key for one in settled], run_id)
            done = sum(tally.values()) - tally[Status.LOST] - tally[Status.DEFERRED]
            totals = {status.value: rows for status, rows in tally.items() if rows}
            self._ledger.finish(run_id, totals | {"finished": done})
        except RedisUnavailable as error:
            # All is written. The locks end by themselves; the producer polls.
            log.warning("run_not_reported", reason=str(error))


def _is_over(watch: SpaceWatch, mine: Space, space: str) -> bool:
    """Whether nobody needs work of `space` any more, since it is retired.

    Raises AnotherSpace when it is this process that is: the work is for others.
    """
    retired = watch.is_retired(at_once=space != mine.name)
    if retired and space != mine.name:
        raise AnotherSpace(f"the message is of the space {space}, and this worker's is retired")
    return retired or space != mine.name


def _unlock(lock_table: LockTable, locks: LockLayer, keys: Sequence[Key], run_id: str) -> None:
    """Let rows be claimed again at once; if that fails, when their locks end."""
    with suppress(EmbedStarError):  # the database's first: it counts
        lock_table.release(keys, run_id)
        locks.release(keys, run_id)


_LEFT_PENDING = frozenset({Status.DEFERRED, Status.LOST})
_WITH_VECTOR = frozenset({Status.EMBEDDED, Status.CACHED})


def _all(rows: Sequence[Pending], status: Status, reason: str) -> list[Outcome]:
    return [Outcome(row, status, reason=reason) for row in rows]


def _bulk_write(run_id: str, outcomes: Sequence[Outcome], found: Mapping[str, Vector]) -> BulkWrite:
    gone = [one for one in outcomes if one.status is Status.GONE]
    renewed = [one for one in outcomes if one.status in _WITH_VECTOR]
    failed = [one for one in outcomes if one.status is Status.FAILED]
    return BulkWrite(
        run_id=run_id,
        vectors=[
            VectorWrite(one.row.key, np.asarray(found[one.text_hash]), one.text_hash, one.cut)
            for one in renewed
        ],
        stale=[one.row.key for one in (*renewed, *failed) if one.replaces]
        + [one.row.key for one in gone],
        failures=[FailureWrite(one.row.key, one.text_hash, one.reason) for one in failed],
        healed=[one.row.key for one in renewed if one.heals] + [one.row.key for one in gone],
        outbox=[outbox_id for one in outcomes for outbox_id in one.row.outbox],
        locks=[one.row.key for one in outcomes],
    )
