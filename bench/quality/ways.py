"""The ways of searching that the product has: its own search, over its own store in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.quality.corpus import Corpus
from bench.quality.figures import DEPTH
from embed_star.embed import text
from embed_star.models import Space
from embed_star.providers.base import Provider
from embed_star.providers.local import FACTS, Local
from embed_star.providers.roles import Role
from embed_star.search import Mode, Search
from embed_star.settings import Settings
from embed_star.store.memory.database import MemoryDatabase, StoredVector
from embed_star.store.memory.retrieval import MemoryRetrieval
from embed_star.store.memory.table import MemoryTable

Way = Callable[[Corpus, Provider], list[list[str]]]
"""Gives the full names that each need of the corpus finds, best first."""


class Embedded:
    """Queries whose vectors were computed together: `search.finding.EmbedsQueries`."""

    def __init__(self, provider: Provider, queries: Sequence[str]) -> None:
        limit = Settings.model_construct().text_max_tokens
        asked = [text.cut(query, limit) for query in queries]
        vectors = provider.embed(asked, Role.QUERY).vectors
        self._vectors = dict(zip(queries, vectors, strict=True))

    def embed(self, query: str) -> NDArray[np.float32]:
        return self._vectors[query]


def search(corpus: Corpus, provider: Provider, mode: Mode) -> list[list[str]]:
    """`embed-star search --mode …`, without a database and a cache."""
    product = Search(
        _stored(corpus, provider), Embedded(provider, [need.query for need in corpus.needs])
    )
    return [
        [hit.repo["full_name"] for hit in product.find(need.query, DEPTH, need.filters, mode)]
        for need in corpus.needs
    ]


def _stored(corpus: Corpus, provider: Provider) -> MemoryRetrieval:
    """The corpus as it is in the database once all of it is embedded."""
    database, now = MemoryDatabase(), datetime.fromtimestamp(time.time(), UTC)
    vectors = provider.embed(corpus.texts).vectors
    space = Space("local", "measured", vectors.shape[1], "measured")
    table = database.vectors.setdefault(space.table, MemoryTable())
    for row, vector in zip(corpus.rows, vectors, strict=True):
        key = row["full_name"].lower()
        database.repos.put(key, row)
        table.put(key, StoredVector(vector, "", "", now, cut=False))
    return MemoryRetrieval(database, space)


WAYS: Mapping[str, Way] = {mode.value: partial(search, mode=mode) for mode in Mode}


def models() -> Sequence[tuple[str, Callable[[], Provider]]]:
    """The models that need no key and no network, by name, the default first."""
    return [
        (f"{model.name}, {length} dimensions", partial(Local, model.name, length))
        for model in FACTS.models.values()
        for length in (model.dimensions, *reversed(model.shorter))
    ]
