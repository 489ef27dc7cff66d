"""A query's vector, from the cache or the provider."""

from __future__ import annotations

import structlog

from embed_star.calling.gateway import PROBE_TEXT, ProviderGateway
from embed_star.calling.validation import Validator
from embed_star.coordination.cache import Vector, VectorCache
from embed_star.embed import text
from embed_star.errors import ConfigError, InputRejected, RedisUnavailable
from embed_star.providers.base import Embeddings
from embed_star.providers.base import Vectors as Matrix
from embed_star.providers.roles import Role

log = structlog.get_logger(__name__)


class QueryEmbedder:
    """Embeds queries in the rows' own space."""

    def __init__(
        self,
        *,
        gateway: ProviderGateway,
        cache: VectorCache,
        validator: Validator,
        max_tokens: int,
        before_query: str = "",
    ) -> None:
        """`before_query` is what the provider puts before a query."""
        self._gateway = gateway
        self._cache = cache
        self._validator = validator
        self._canary = gateway.canary
        self._max_tokens = max_tokens
        self._before_query = before_query

    def embed(self, query: str) -> Vector:
        """The vector of a query that is not empty, shape (dimensions,).

        A cached query is not paid for again. Raises ConfigError if the provider refuses the
        query or has no usable vector for it.
        """
        query = text.cut(query, self._max_tokens)
        query_hash = text.query_hash(query, self._before_query)
        try:
            cached = self._cache.get_many([query_hash])
        except RedisUnavailable as error:
            log.warning("cache_unavailable", reason=str(error))
            cached = {}
        if query_hash in cached:
            return cached[query_hash]
        try:
            answer = self._gateway.search(query)
        except InputRejected as error:
            raise ConfigError(f"the provider refused the query: {error}") from error
        vector = self._usable(answer.vectors)
        self._keep(query_hash, vector)
        return vector

    def _usable(self, vectors: Matrix) -> Vector:
        """The only one of `vectors`, normalised here if the server does not normalise."""
        vector: Vector = vectors[0]
        (reason,) = self._validator.judge(vectors)
        if not reason:
            return vector
        if self._canary.normalises is None:
            self._canary.judge(self._ask_canary())  # raises when it is not the query's fault
        usable = self._canary.mend(vector, reason)
        if usable is None:
            raise ConfigError(f"the model has no usable vector for this query ({reason})")
        return usable

    def _ask_canary(self) -> Embeddings:
        return self._gateway.search(PROBE_TEXT, Role.DOCUMENT)

    def _keep(self, query_hash: str, vector: Vector) -> None:
        try:
            self._cache.put_many({query_hash: vector})
        except RedisUnavailable as error:
            log.warning("cache_unavailable", reason=str(error))
