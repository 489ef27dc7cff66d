"""Search by name and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embed_star.embed.passages import PASSAGE_TOKENS, find
from embed_star.errors import ConfigError
from embed_star.models import key_text
from embed_star.search.names import NameQuery, read_name
from embed_star.search.results import Hit, check_count
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.retrieval import Neighbour, Retrieval

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

    def __init__(
        self, retrieval: Retrieval, queries: EmbedsQueries, *, max_tokens: int = PASSAGE_TOKENS
    ) -> None:
        """`max_tokens` is where texts are cut, and with them passages."""
        self._retrieval = retrieval
        self._queries = queries
        self._max_tokens = max_tokens

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
        found = self._retrieval.nearest(vector, k, filters, passages=True)
        others = [one for one in found if key_text(one.repo["id"].id) not in seen]
        return [*named, *map(self._hit, others[: k - len(named)])]

    def _hit(self, one: Neighbour) -> Hit:
        """A hit by meaning. Its passage is cut out of the README that the row has now: there is
        none if the README was changed and is not embedded yet."""
        if not one.passage:
            return Hit(one.repo, one.score)
        passage = find(one.repo.get("readme"), one.passage, self._max_tokens)
        return Hit(one.repo, one.score, passage=passage)

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
