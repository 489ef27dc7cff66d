"""Passages in memory."""

from __future__ import annotations

from collections.abc import Sequence

from embed_star.models import Key, Space
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.tables.passages import README, ReadmeState


class MemoryPassages:
    """`store.tables.passages.Passages`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def load(self, rows: Sequence[tuple[Key, int]]) -> list[ReadmeState]:
        with self._database.transaction:
            return [self._state(key, most) for key, most in rows]

    def count(self) -> int:
        with self._database.transaction:
            return len(self._database.passages[self._space.table])

    def _state(self, key: Key, most: int) -> ReadmeState:
        table = self._database.passages[self._space.table]
        stored = [one for n in range(most) if (one := table.get([key, n]))]
        vectors = {one.text_hash: one.vector for one in stored}
        if own := self._database.vectors[self._space.table].get(key):
            vectors[own.own_hash or own.text_hash] = own.vector
        readme = (self._database.repos.get(key) or {}).get(README)
        return ReadmeState(readme if isinstance(readme, str) else "", vectors)
