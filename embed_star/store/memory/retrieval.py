"""What searches read, in memory. Every search is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.memory import database
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.tables.names import flat_name
from embed_star.store.tables.retrieval import (
    NAMED_ROWS,
    NO_FILTERS,
    Filters,
    Named,
    Neighbour,
    StoredVector,
)

_Row = tuple[Key, database.StoredVector, dict[str, Any]]


class MemoryRetrieval:
    """`store.tables.retrieval.Retrieval`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def nearest(
        self, query: NDArray[np.float32], k: int, filters: Filters = NO_FILTERS
    ) -> list[Neighbour]:
        with self._database.transaction:
            rows = list(self._rows(filters))
            scores = _cosines(rows, query)
            best = sorted(range(len(rows)), key=lambda place: -scores[place])[:k]
            found = [(*rows[place], scores[place]) for place in best]
            return [
                Neighbour({**repo, "id": record("repo", key)}, score)
                for key, _, repo, score in found
            ]

    def named(
        self,
        names: Sequence[str],
        prefixes: Sequence[str],
        query: NDArray[np.float32] | None = None,
        filters: Filters = NO_FILTERS,
    ) -> list[Named]:
        with self._database.transaction:
            by_name = [(flat_name(row[2].get("full_name")), row) for row in self._rows(filters)]
            equal = [row for name, row in by_name if name in set(names)]
            rows = equal[:NAMED_ROWS]
            for prefix in prefixes:
                rows += [row for name, row in by_name if name.startswith(prefix)][:NAMED_ROWS]
            scores = [0.0] * len(rows) if query is None else _cosines(rows, query)
            found = [
                Named(key, str(repo.get("full_name") or ""), score)
                for (key, _, repo), score in zip(rows, scores, strict=True)
            ]
        return list({id(row): one for row, one in zip(rows, found, strict=True)}.values())

    def repos(self, keys: Sequence[Key]) -> list[Mapping[str, Any]]:
        with self._database.transaction:
            return [
                {**repo, "id": record("repo", key)}
                for key in keys
                if (repo := self._database.repos.get(key)) is not None
            ]

    def repo(self, full_name: str) -> Mapping[str, Any] | None:
        wanted = full_name.lower()
        with self._database.transaction:
            for key, repo in self._database.repos:
                if str(repo.get("full_name") or key).lower() == wanted:
                    return {**repo, "id": record("repo", key)}
        return None

    def vector(self, key: Key) -> StoredVector | None:
        with self._database.transaction:
            stored = self._database.vectors[self._space.table].get(key)
            if stored is None or key not in self._database.repos:
                return None
            return _stored(key, stored)

    def dates(self, keys: Sequence[Key]) -> dict[str, datetime]:
        with self._database.transaction:
            table = self._database.vectors[self._space.table]
            return {key_text(key): one.embedded_at for key in keys if (one := table.get(key))}

    def page(self, after: Key | None, rows: int, filters: Filters) -> list[StoredVector]:
        with self._database.transaction:
            found = islice(self._rows(filters, after), rows)
            return [_stored(key, stored) for key, stored, _ in found]

    def _rows(self, filters: Filters, after: Key | None = None) -> Iterator[_Row]:
        """The vectors after a key whose repos are there and pass `filters`, with the repos."""
        table = self._database.vectors[self._space.table]
        for key, stored in table.after(after, len(table)):
            repo = self._database.repos.get(key)
            if repo is not None and _passes(repo, filters):
                yield key, stored, repo


def _cosines(rows: Sequence[_Row], query: NDArray[np.float32]) -> list[float]:
    if not rows:
        return []
    vectors = np.stack([stored.vector for _, stored, _ in rows])
    lengths = np.linalg.norm(vectors, axis=1) * float(np.linalg.norm(query))
    dots = vectors @ query
    found = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return [float(one) for one in found]


def _stored(key: Key, stored: database.StoredVector) -> StoredVector:
    return StoredVector(key, stored.vector, stored.text_hash, stored.embedded_at, stored.cut)


def _passes(repo: Mapping[str, Any], filters: Filters) -> bool:
    language, stars = repo.get("language"), repo.get("stargazers_count")
    if filters.language is not None and str(language or "").lower() != filters.language.lower():
        return False
    if filters.min_stars is None:
        return True
    return isinstance(stars, int | float) and stars >= filters.min_stars
