"""Stores one run, without Celery: takes vectors from the cache, and writes them in bulk.

The write is fenced by the locks of the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import structlog

from embed_star.claims.claims import Claims
from embed_star.coordination.cache import Vector, VectorCache
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.errors import (
    AlreadyExists,
    FenceLost,
    RedisUnavailable,
    SpaceRetired,
    TransientError,
)
from embed_star.events import Emit, RowsLeft, RowsWritten, ignore_event
from embed_star.models import MOST_PASSAGES, Outcome, Space, Status
from embed_star.store.tables.space_watch import SpaceWatch
from embed_star.store.tables.vectors import (
    BulkWrite,
    FailureWrite,
    PassageWrite,
    Vectors,
    VectorWrite,
)

log = structlog.get_logger(__name__)

STORE_ROWS = 200
"""Vectors one transaction writes; a plain row has one. 100 to 500 cost the same for each on 3.3.5;
more cost more, and keep their neighbours' writes waiting."""

GONE_S = 2.0
"""A row whose vector is gone from the cache is claimed anew after this. Not at once: it is paid for
again, and a cache that keeps nothing must not make that a tight loop."""

_FENCE_ROUNDS = 3

_LEFT_PENDING = frozenset({Status.DEFERRED, Status.LOST})
_WITH_VECTOR = frozenset({Status.EMBEDDED, Status.CACHED})


class Storer:
    """Writes the outcomes of a run's batches, in bulk."""

    def __init__(
        self,
        *,
        vectors: Vectors,
        claims: Claims,
        ledger: InFlightLedger,
        cache: VectorCache,
        space: Space,
        space_watch: SpaceWatch,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = ignore_event,
    ) -> None:
        self._vectors = vectors
        self._claims = claims
        self._ledger = ledger
        self._cache = cache
        self._space = space
        self._space_watch = space_watch
        self._clock = clock
        self._emit = emit

    def store(
        self, run_id: str, outcomes: Sequence[Outcome], space: str | None = None
    ) -> Counter[Status]:
        """Write the outcomes of one run. Returns the number of rows by their final status.

        A second or late call changes nothing: rows whose lock the run no longer holds are
        left to the run that holds them. Raises TransientError; rows that were written before
        it stay written. `space` is the run's space. Rows of a retired space are unlocked and
        DEFERRED. Raises AnotherSpace for a run that workers of another space store.
        """
        settled = [one for one in outcomes if one.status not in _LEFT_PENDING]
        tally = Counter(one.status for one in outcomes if one.status in _LEFT_PENDING)
        try:
            if self._space_watch.is_over(space or self._space.name):
                raise SpaceRetired("the run's space is retired")
            for some in _parts(settled):
                tally += self._store_some(run_id, some)
        except SpaceRetired:
            log.info("run_of_a_retired_space", rows=len(settled))
            with suppress(RedisUnavailable):
                self._claims.release([one.row.key for one in settled], run_id)
            tally[Status.DEFERRED] += len(outcomes) - sum(tally.values())
        self._emit(RowsLeft(tally[Status.DEFERRED], tally[Status.LOST]))
        self._finish(run_id, settled, tally)
        return tally

    def _store_some(self, run_id: str, outcomes: Sequence[Outcome]) -> Counter[Status]:
        wanted: dict[str, list[str]] = {}
        for one in outcomes:
            if one.status in _WITH_VECTOR:
                wanted.setdefault(one.source, []).extend(one.hashes)
        found: dict[str, Vector] = {}
        for source, hashes in wanted.items():
            found |= self._cache.get_from(source, hashes)
        # Gone between the two tasks, with all of Redis or by eviction: the row stays pending.
        gone = [
            one
            for one in outcomes
            if one.status in _WITH_VECTOR and not all(part in found for part in one.hashes)
        ]
        with suppress(TransientError):
            self._claims.end_soon([one.row.key for one in gone], run_id, GONE_S)
        lost = set(map(id, gone))
        ready = [one for one in outcomes if id(one) not in lost]
        tally = Counter({Status.DEFERRED: len(outcomes) - len(ready)})
        written = self._write(run_id, ready, found)
        tally.update(one.status for one in written)
        tally[Status.LOST] += len(ready) - len(written)
        return tally

    def _write(
        self, run_id: str, outcomes: Sequence[Outcome], found: Mapping[str, Vector]
    ) -> Sequence[Outcome]:
        """Write the rows that the run still holds. Returns those that were written."""
        write_all_stale = False
        for _ in range(_FENCE_ROUNDS):
            if not outcomes:
                break
            write = _bulk_write(run_id, outcomes, found)
            if write_all_stale:
                passages = [(key, MOST_PASSAGES) for key in write.locks]
                write = replace(write, stale=write.locks, stale_passages=passages)
            started = self._clock()
            try:
                self._vectors.apply(write)
            except FenceLost:
                held = self._claims.held([one.row.key for one in outcomes], run_id)
                outcomes = [one for one, mine in zip(outcomes, held, strict=True) if mine]
            except AlreadyExists:
                # A vector or passage came from elsewhere (a restored backup): replace it.
                write_all_stale = True
            else:
                self._emit(RowsWritten(outcomes, self._clock() - started))
                return outcomes
        return []

    def _finish(self, run_id: str, settled: Sequence[Outcome], tally: Counter[Status]) -> None:
        try:
            self._claims.release_written([one.row.key for one in settled], run_id)
            done = sum(tally.values()) - tally[Status.LOST] - tally[Status.DEFERRED]
            totals = {status.value: rows for status, rows in tally.items() if rows}
            self._ledger.finish(run_id, totals | {"finished": done})
        except RedisUnavailable as error:
            # All is written. The locks end by themselves; the producer polls.
            log.warning("run_not_reported", reason=str(error))


def _parts(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    """`outcomes`, in order, in lists with at most STORE_ROWS vectors, or of one row."""
    part: list[Outcome] = []
    vectors = 0
    for one in outcomes:
        if part and vectors + len(one.hashes) > STORE_ROWS:
            yield part
            part, vectors = [], 0
        part.append(one)
        vectors += len(one.hashes)
    if part:
        yield part


def _bulk_write(run_id: str, outcomes: Sequence[Outcome], found: Mapping[str, Vector]) -> BulkWrite:
    gone = [one for one in outcomes if one.status is Status.GONE]
    renewed = [one for one in outcomes if one.status in _WITH_VECTOR]
    failed = [one for one in outcomes if one.status is Status.FAILED]
    return BulkWrite(
        run_id=run_id,
        vectors=[
            VectorWrite(
                one.row.key,
                np.asarray(found[one.hashes[0]]),
                one.text_hash,
                one.name,
                one.cut,
                one.own_hash,
                [PassageWrite(np.asarray(found[part]), part) for part in one.passages],
                one.left_out,
            )
            for one in renewed
        ],
        stale_passages=[
            (one.row.key, one.old_passages)
            for one in (*renewed, *failed, *gone)
            if one.old_passages
        ],
        stale=[one.row.key for one in (*renewed, *failed) if one.replaces]
        + [one.row.key for one in gone],
        failures=[FailureWrite(one.row.key, one.text_hash, one.reason) for one in failed],
        healed=[one.row.key for one in renewed if one.heals] + [one.row.key for one in gone],
        outbox=[outbox_id for one in outcomes for outbox_id in one.row.outbox],
        locks=[one.row.key for one in outcomes],
    )
