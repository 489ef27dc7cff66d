"""One process embeds, another stores: the vector must be where both can see it."""

from __future__ import annotations

import numpy as np
import redis

from embed_star.coordination.cache import RedisCacheBackend, VectorCache


def cache(client: redis.Redis) -> VectorCache:
    """What each process has of its own."""
    backend = RedisCacheBackend(client)
    return VectorCache(backend, "space", 8, ttl_s=60, local_entries=10, local_ttl_s=60)


def test_what_is_reported_as_cached_is_in_redis_again(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        embedding, storing = cache(client), cache(client)
        vector = np.arange(8, dtype=np.float32)
        embedding.put_many({"hash": vector})
        client.flushall()
        assert set(embedding.get_many(["hash"])) == {"hash"}
        assert storing.get_many(["hash"]) == {}
        assert set(embedding.get_shared(["hash", "unknown"])) == {"hash"}
        np.testing.assert_array_equal(storing.get_many(["hash"])["hash"], vector)
