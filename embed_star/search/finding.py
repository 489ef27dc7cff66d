"""Search by name and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embed_star.errors import ConfigError
from embed_star.models import key_text
from embed_star.search.names import NameQuery, read_name
from embed_star.search.results import Hit, check_count
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.retrieval import Retrieval

_Vector = NDArray[np.float32]


class Mode(Enum):
    """What a search goes by."""

    HYBRID = "hybrid"
    """Repos whose name matches first, then meaning."""
    VECTOR = "vector"
    """Meaning alone."""


class EmbedsQueries(Protocol):
    """`search.queries.QueryEmbedder`, or a model without cache and provider's limits."""

    def embed(self, query: str) -> _Vector:
        """The vector of `query`, shape (dimensions,)."""


class Search:
    """Answers queries over one space."""

    def __init__(self, retrieval: Retrieval, queries: EmbedsQueries) -> None:
        self._retrieval = retrieval
        self._queries = queries

    def find(
        self, query: str, k: int, filters: Filters = NO_FILTERS, mode: Mode = Mode.HYBRID
    ) -> Sequence[Hit]:
        """The `k` repos that `query` names or describes, best first.

        A cached query is not paid for again. Raises ConfigError if the query is empty, `k` is
        not from 1 to MAX_HITS, or the provider refuses the query or has no usable vector for it.
        """
        check_count(k)
        query = query.replace("\0", "").strip()
        if not query:
            raise ConfigError("the query is empty: describe what you look for")
        vector = self._queries.embed(query)
        name = read_name(query) if mode is Mode.HYBRID else None
        named = self._named(name, vector, k, filters) if name else []
        if len(named) == k:
            return named
        seen = {key_text(hit.repo["id"].id) for hit in named}
        nearest = [Hit(one.repo, one.score) for one in self._retrieval.nearest(vector, k, filters)]
        return [*named, *(one for one in nearest if key_text(one.repo["id"].id) not in seen)][:k]

    def _named(self, name: NameQuery, vector: _Vector, k: int, filters: Filters) -> list[Hit]:
        """The `k` best of the repos whose name matches: by kind of match, then by meaning."""
        found = [
            (match, one)
            for one in self._retrieval.named(name.names, name.prefixes, vector, filters)
            if (match := name.match(one.full_name))
        ]
        best = sorted(found, key=lambda pair: (pair[0].rank, -pair[1].score))[:k]
        repos = self._retrieval.repos([one.key for _, one in best])
        by_key = {key_text(repo["id"].id): repo for repo in repos}
        return [
            Hit(by_key[key_text(one.key)], one.score, match)
            for match, one in best
            if key_text(one.key) in by_key
        ]
