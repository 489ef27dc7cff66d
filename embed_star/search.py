"""Search by meaning: the query is embedded in the rows' own space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from embed_star import text
from embed_star.cache import Vector, VectorCache
from embed_star.errors import ConfigError, InputRejected, RedisUnavailable
from embed_star.providers.base import Provider
from embed_star.store.vectors import Hit, Vectors
from embed_star.validation import Validator

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a repo must be, besides near."""

    language: str | None = None
    """Main language, in any case."""
    min_stars: int | None = None


class Search:
    """Answers queries over one space."""

    def __init__(
        self,
        *,
        vectors: Vectors,
        provider: Provider,
        cache: VectorCache,
        validator: Validator,
        max_tokens: int,
    ) -> None:
        self._vectors = vectors
        self._provider = provider
        self._cache = cache
        self._validator = validator
        self._max_tokens = max_tokens

    def find(self, query: str, k: int, filters: Filters = Filters()) -> Sequence[Hit]:
        """The `k` repos nearest in meaning to `query`, best first.

        A query asked before is not paid for again. Raises ConfigError when it is empty
        or has no meaning to the model.
        """
        rendered = text.cut(query.replace("\0", ""), self._max_tokens)
        if not rendered:
            raise ConfigError("the query is empty: describe what you look for")
        return self._vectors.search(
            self._embed(rendered), k, language=filters.language, min_stars=filters.min_stars
        )

    def _embed(self, query: str) -> Vector:
        query_hash = text.text_hash(query)
        try:
            cached = self._cache.get_many([query_hash])
        except RedisUnavailable as error:
            log.warning("cache_unavailable", reason=str(error))
            cached = {}
        if query_hash in cached:
            return cached[query_hash]
        try:
            vectors = self._provider.embed([query]).vectors
        except InputRejected as error:
            raise ConfigError(f"the provider refused the query: {error}") from error
        (reason,) = self._validator.judge(vectors)
        if reason:
            raise ConfigError(f"the model has no usable vector for this query ({reason})")
        self._keep(query_hash, vectors[0])
        vector: Vector = vectors[0]
        return vector

    def _keep(self, query_hash: str, vector: Vector) -> None:
        try:
            self._cache.put_many({query_hash: vector})
        except RedisUnavailable as error:
            log.warning("cache_unavailable", reason=str(error))
