"""A space's vector table in memory: the fenced bulk write, and the walk over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embed_star.errors import AlreadyExists, FenceLost, SpaceRetired
from embed_star.models import Key, Space
from embed_star.store.memory.database import MemoryDatabase, StoredPassage, StoredVector
from embed_star.store.memory.key_order import key_order
from embed_star.store.memory.table import MemoryTable
from embed_star.store.tables.vectors import BulkWrite


class MemoryVectors:
    """`store.tables.vectors.Vectors`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def apply(self, write: BulkWrite) -> None:
        with self._database.transaction:
            self._check(write)
            self._change(write)

    def count(self) -> int:
        with self._database.transaction:
            return len(self._table)

    def keys_page(self, after: Key | None, rows: int) -> list[Key]:
        with self._database.transaction:
            return [key for key, _ in self._table.after(after, rows)]

    def without_repo(self, keys: Sequence[Key]) -> list[Key]:
        with self._database.transaction:
            return [key for key in keys if key not in self._database.repos]

    def refresh_names(self, keys: Sequence[Key]) -> int:  # noqa: ARG002 - see below
        return 0  # names are looked up in the repos

    @property
    def _table(self) -> MemoryTable[StoredVector]:
        return self._database.vectors[self._space.table]

    @property
    def _passages(self) -> MemoryTable[StoredPassage]:
        return self._database.passages[self._space.table]

    def _check(self, write: BulkWrite) -> None:
        space = self._database.spaces.get(self._space.name)
        if space is None or not space.known.active:
            raise SpaceRetired("the space is retired")
        if not all(self._database.holds(write.locks, write.run_id)):
            raise FenceLost("a lock of this run is no longer this run's")
        stale = {key_order(key) for key in write.stale}
        added = {key_order(one.key) for one in write.vectors}
        there = {key_order(one.key) for one in write.vectors if one.key in self._table}
        if there - stale or len(added) < len(write.vectors):
            raise AlreadyExists("a vector is there")
        old = {key_order([key, n]) for key, most in write.stale_passages for n in range(most)}
        new = [[one.key, n] for one in write.vectors for n in range(len(one.passages))]
        if any(key in self._passages and key_order(key) not in old for key in new):
            raise AlreadyExists("a passage is there")

    def _change(self, write: BulkWrite) -> None:
        database, now = self._database, self._database.now()
        for key in write.stale:
            self._table.delete(key)
        for key, most in write.stale_passages:
            for n in range(most):
                self._passages.delete([key, n])
        for one in write.vectors:
            vector = one.vector.astype(np.float32)  # a copy: the caller's may change
            stored = StoredVector(
                vector,
                one.text_hash,
                write.run_id,
                now,
                one.cut,
                one.own_hash,
                len(one.passages),
                one.left_out,
            )
            self._table.put(one.key, stored)
            for n, passage in enumerate(one.passages):
                copied = StoredPassage(passage.vector.astype(np.float32), passage.text_hash)
                self._passages.put([one.key, n], copied)
        for key in write.healed:
            database.failures.delete(key)
        for failed in write.failures:
            database.note_failure(failed.key, self._space.name, failed.reason, failed.text_hash)
        for outbox_id in write.outbox:
            database.outbox.delete(list(outbox_id))
        for key in write.locks:
            database.locks.delete(key)
