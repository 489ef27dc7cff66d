"""Pairs of repositories that are nearly the same."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embed_star.errors import ConfigError
from embed_star.models import Key, key_text
from embed_star.search.results import check_count
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.retrieval import Retrieval, StoredVector

MAX_ROWS = 100_000
"""Most vectors that are compared, each with each: 150 MB at 384 dimensions."""

_PAGE_ROWS = 500
_BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two repos that mean nearly the same."""

    repo: Mapping[str, Any]
    other: Mapping[str, Any]
    score: float
    """Cosine similarity of their vectors, in [-1, 1]."""
    same_text: bool
    """Whether the texts that were embedded are equal."""

    @property
    def reason(self) -> str:
        """Why they are a pair, for people."""
        return "the same text" if self.same_text else "nearly the same meaning"


class Duplicates:
    """Compares all vectors with each other, exactly: it asks no provider."""

    def __init__(self, retrieval: Retrieval, *, max_rows: int = MAX_ROWS) -> None:
        self._retrieval = retrieval
        self._max_rows = max_rows

    def find(
        self, k: int, *, min_score: float = 0.95, filters: Filters = NO_FILTERS
    ) -> Sequence[Duplicate]:
        """The `k` most similar pairs among the repos that pass `filters`, best first.

        `min_score` is the least cosine similarity of a pair. Raises ConfigError if more than
        `max_rows` repos pass, or `k` is not from 1 to MAX_HITS.
        """
        check_count(k)
        rows = self._rows(filters)
        if not rows:
            return []
        pairs = heapq.nsmallest(k, _pairs(rows, min_score, k))
        keys = {place: rows[place].key for _, *both in pairs for place in both}
        found = self._retrieval.repos(list(keys.values()))
        repos = {key_text(repo["id"].id): repo for repo in found}
        return [
            Duplicate(
                repos[key_text(keys[one])],
                repos[key_text(keys[other])],
                -distance,
                rows[one].text_hash == rows[other].text_hash,
            )
            for distance, one, other in pairs
            if key_text(keys[one]) in repos and key_text(keys[other]) in repos
        ]

    def _rows(self, filters: Filters) -> list[StoredVector]:
        rows: list[StoredVector] = []
        after: Key | None = None
        while page := self._retrieval.page(after, _PAGE_ROWS, filters):
            rows += page
            after = page[-1].key
            if len(rows) > self._max_rows:
                raise ConfigError(
                    f"more than {self._max_rows:,} repositories would be compared with each other: "
                    "choose fewer by --language, --min-stars or another filter"
                )
        return rows


def _pairs(
    rows: Sequence[StoredVector], min_score: float, k: int
) -> Iterator[tuple[float, int, int]]:
    """(minus the cosine, place, later place) of the best pairs: of each block `k` at most."""
    matrix = np.stack([one.vector for one in rows])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    for start in range(0, len(rows), _BLOCK_ROWS):
        scores = matrix[start : start + _BLOCK_ROWS] @ matrix[start:].T
        scores[np.tril_indices(len(scores), m=scores.shape[1])] = -np.inf
        one, other = np.nonzero(scores >= min_score)
        values = scores[one, other]
        best = np.argsort(-values, kind="stable")[:k]
        for place in best:
            score = min(1.0, float(values[place]))
            yield -score, start + int(one[place]), start + int(other[place])
