"""The rows whose READMEs have the passages that are nearest to a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embed_star.models import MOST_PASSAGES, Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.store.tables.filters import Filters
from embed_star.store.tables.neighbours import FEW, Neighbours
from embed_star.values import RecordID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Ranked = tuple[Key, float, str]
"""The key of a row, a cosine similarity, and the hash of the passage that has it, if one has."""


class PassageNeighbours(Neighbours):
    """Over the passages of one space, whose keys are `[key of the row, number]`."""

    def __init__(self, database: Database, space: Space) -> None:
        super().__init__(database, space.passages_table)
        self._own = space.table

    def find_rows(self, query: NDArray[np.float32], k: int, filters: Filters) -> list[Ranked]:
        """The rows with the nearest passages, each with its nearest one, best first.

        As many as `Neighbours.find` gives. A row may have many passages, so it asks for more of
        them, twice as many each time, until there are enough rows.
        """
        if not self._database.query(f"SELECT VALUE id FROM {self._table} LIMIT 1")[0]:
            return []  # rows without READMEs cost this
        wanted = most = 2 * int(k)
        while True:
            best: dict[str, tuple[list[Any], float]] = {}
            found = self.find(query, most, filters)
            for key, score in found:
                best.setdefault(key_text(key[0]), (key, score))
            if len(best) >= wanted or len(found) < most or most > wanted * MOST_PASSAGES:
                return self._with_hashes(list(best.values())[:wanted])
            most *= 2

    def _with_hashes(self, found: Sequence[tuple[list[Any], float]]) -> list[Ranked]:
        ids = [record(self._table, key) for key, _ in found]
        (rows,) = self._database.query("SELECT id, text_hash FROM $passages", passages=ids)
        hashes = {key_text(one["id"].id): str(one["text_hash"]) for one in rows}
        texts = [key_text(key) for key, _ in found]
        return [
            (key[0], score, hashes[text])
            for text, (key, score) in zip(texts, found, strict=True)
            if text in hashes
        ]

    def _vectors_of(
        self, passing: Sequence[str], bound: Mapping[str, Any]
    ) -> list[RecordID] | None:
        keys = self._keys_of(passing, bound)
        if keys is None:
            return None
        (rows,) = self._database.query(
            "SELECT id, passages FROM $vectors WHERE passages > 0",
            vectors=[record(self._own, key) for key in keys],
        )
        ids = [(one["id"].id, n) for one in rows for n in range(int(one["passages"]))]
        return None if len(ids) > FEW else [record(self._table, list(one)) for one in ids]


def merged(own: Sequence[Ranked], passages: Sequence[Ranked]) -> list[Ranked]:
    """Each row of both once, by the better of its two, best first."""
    best: dict[str, Ranked] = {}
    for one in sorted((*own, *passages), key=lambda one: -one[1]):
        best.setdefault(key_text(one[0]), one)
    return list(best.values())
