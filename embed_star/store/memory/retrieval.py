"""What searches read, in memory. Every search is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.memory.database import MemoryDatabase, StoredPassage, StoredVector
from embed_star.store.memory.table import MemoryTable
from embed_star.store.tables import names as table_names
from embed_star.store.tables import retrieval
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.retrieval import Named, Neighbour

_flat_name = lru_cache(maxsize=100_000)(table_names.flat_name)


class MemoryRetrieval:
    """`store.tables.retrieval.Retrieval`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def nearest(
        self,
        query: NDArray[np.float32],
        k: int,
        filters: Filters = NO_FILTERS,
        *,
        passages: bool = False,
    ) -> list[Neighbour]:
        with self._database.transaction:
            rows = [(key, stored.vector, "") for key, stored in self._vectors]
            if passages:
                rows += [(key[0], one.vector, one.text_hash) for key, one in self._passages]
            scores = _cosines([vector for _, vector, _ in rows], query)
            best: dict[str, Neighbour] = {}
            for place in sorted(range(len(rows)), key=lambda place: -scores[place]):
                key, _, passage = rows[place]
                repo = self._passing(key, filters)
                if repo is not None and key_text(key) not in best:
                    best[key_text(key)] = Neighbour(_whole(key, repo), scores[place], passage)
                if len(best) == k:
                    break
            return list(best.values())

    def named(
        self,
        names: Sequence[str],
        prefixes: Sequence[str],
        query: NDArray[np.float32] | None = None,
        filters: Filters = NO_FILTERS,
    ) -> list[Named]:
        wanted, beginnings = set(names), tuple(prefixes)
        with self._database.transaction:
            found = [
                (key, str(repo["full_name"]), stored)
                for key, repo in self._database.repos
                if (name := _flat_name(str(repo.get("full_name") or "")))
                and (name in wanted or name.startswith(beginnings))
                and (stored := self._vectors.get(key)) is not None
                and passes(repo, filters)
            ]
            scores = [0.0] * len(found)
            if query is not None:
                scores = _cosines([stored.vector for _, _, stored in found], query)
        return [
            Named(key, full_name, score)
            for (key, full_name, _), score in zip(found, scores, strict=True)
        ]

    def repos(self, keys: Sequence[Key]) -> list[Mapping[str, Any]]:
        with self._database.transaction:
            found = [(key, self._database.repos.get(key)) for key in keys]
            return [_whole(key, repo) for key, repo in found if repo is not None]

    def repo(self, full_name: str) -> Mapping[str, Any] | None:
        wanted = full_name.lower()
        with self._database.transaction:
            for key, repo in self._database.repos:
                if str(repo.get("full_name") or key).lower() == wanted:
                    return _whole(key, repo)
        return None

    def vector(self, key: Key) -> retrieval.StoredVector | None:
        with self._database.transaction:
            stored = self._vectors.get(key)
            if stored is None or key not in self._database.repos:
                return None
            return _stored(key, stored)

    def dates(self, keys: Sequence[Key]) -> dict[str, datetime]:
        with self._database.transaction:
            table = self._database.vectors[self._space.table]
            return {key_text(key): one.embedded_at for key in keys if (one := table.get(key))}

    def page(self, after: Key | None, rows: int, filters: Filters) -> list[retrieval.StoredVector]:
        with self._database.transaction:
            return list(islice(self._stored_after(after, filters), rows))

    @property
    def _vectors(self) -> MemoryTable[StoredVector]:
        return self._database.vectors[self._space.table]

    @property
    def _passages(self) -> MemoryTable[StoredPassage]:
        return self._database.passages.get(self._space.table, MemoryTable())

    def _stored_after(
        self, after: Key | None, filters: Filters
    ) -> Iterator[retrieval.StoredVector]:
        for key, stored in self._vectors.after(after, len(self._vectors)):
            if self._passing(key, filters) is not None:
                yield _stored(key, stored)

    def _passing(self, key: Key, filters: Filters) -> dict[str, Any] | None:
        """The repo with `key`, if it is there and passes."""
        repo = self._database.repos.get(key)
        return repo if repo is not None and passes(repo, filters) else None


def _whole(key: Key, repo: Mapping[str, Any]) -> dict[str, Any]:
    return {**repo, "id": record("repo", key)}


def _cosines(rows: Sequence[NDArray[np.float32]], query: NDArray[np.float32]) -> list[float]:
    if not rows:
        return []
    vectors = np.stack(rows)
    lengths = np.linalg.norm(vectors, axis=1) * float(np.linalg.norm(query))
    dots = vectors @ query
    found: list[float] = np.divide(
        dots, lengths, out=np.zeros_like(dots), where=lengths > 0
    ).tolist()
    return found


def _stored(key: Key, stored: StoredVector) -> retrieval.StoredVector:
    return retrieval.StoredVector(
        key,
        stored.vector,
        stored.own_hash or stored.text_hash,
        stored.embedded_at,
        stored.cut,
        stored.passages,
    )


def passes(repo: Mapping[str, Any], filters: Filters) -> bool:
    """Whether a repo with these fields meets `filters`."""
    return all(
        wanted is None or _CHECKS[name](repo, wanted)
        for name, wanted in ((one.name, getattr(filters, one.name)) for one in fields(filters))
    )


def _has_stars(repo: Mapping[str, Any], least: int) -> bool:
    stars = repo.get("stargazers_count")
    return isinstance(stars, int | float) and stars >= least


def _has_topic(repo: Mapping[str, Any], topic: str) -> bool:
    topics = repo.get("topics")
    return isinstance(topics, list | str) and topic.lower() in topics


def _moment(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value or "")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], Any], bool]] = {
    "language": lambda repo, name: str(repo.get("language") or "").lower() == name.lower(),
    "min_stars": _has_stars,
    "topic": _has_topic,
    "owner": lambda repo, owner: (
        str(repo.get("full_name") or "").lower().startswith(owner.lower() + "/")
    ),
    "pushed_since": lambda repo, day: _moment(repo.get("pushed_at")) >= day.isoformat(),
    "archived": lambda repo, archived: (repo.get("archived") or False) is archived,
}
"""By the name of the filter."""
