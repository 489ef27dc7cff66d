"""The vector cache over a real Redis: what is a hit, and everything that is a miss."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import redis
from cachetools import TTLCache

from embed_star.coordination import client as connection
from embed_star.coordination.cache import Vector, VectorCache
from embed_star.errors import RedisUnavailable

DIMENSIONS = 4


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


def cache(
    client: redis.Redis,
    space: str = "space",
    *,
    dimensions: int = DIMENSIONS,
    local_entries: int = 0,
    ttl_s: float = 60.0,
    local_ttl_s: float = 60.0,
) -> VectorCache:
    return VectorCache(
        client,
        space,
        dimensions,
        ttl_s=ttl_s,
        local_entries=local_entries,
        local_ttl_s=local_ttl_s,
    )


def vector(value: float, dimensions: int = DIMENSIONS) -> Vector:
    return np.linspace(-value, value / 3, dimensions, dtype=np.float32)


class TestOverRedis:
    def test_another_process_finds_it_bit_by_bit(self, client: redis.Redis) -> None:
        odd = np.array([1e-45, -0.0, 3.4e38, 1 / 3], dtype=np.float32)
        cache(client).put_many({"a": vector(1), "b": odd})
        found = cache(client).get_many(["b", "missing", "a", "b"])
        assert set(found) == {"a", "b"}
        assert found["b"].tobytes() == odd.tobytes()
        assert found["a"].dtype == np.float32

    def test_no_texts_ask_nothing_of_redis(self, client: redis.Redis) -> None:
        cache(client).put_many({})
        assert cache(client).get_many([]) == {}
        assert client.dbsize() == 0

    def test_spaces_never_mix(self, client: redis.Redis) -> None:
        cache(client, "one").put_many({"a": vector(1)})
        assert cache(client, "two").get_many(["a"]) == {}
        assert cache(client, "on").get_many(["e:a"]) == {}

    def test_an_entry_has_an_end(self, client: redis.Redis) -> None:
        cache(client, ttl_s=60.0).put_many({"a": vector(1)})
        (key,) = client.keys()
        assert 0 < client.pttl(key) <= 60_000
        client.delete(key)
        assert cache(client).get_many(["a"]) == {}

    @pytest.mark.parametrize(
        "damage",
        [
            lambda blob: blob[:0],
            lambda blob: blob[:-1],
            lambda blob: blob + b"\0",
            lambda blob: blob[:4],
            lambda blob: bytes([blob[0] ^ 1]) + blob[1:],
            lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]),
            lambda blob: blob[4:] + blob[:4],
            lambda blob: bytes(len(blob) - 1) + b"x",
        ],
    )
    def test_a_torn_entry_is_a_miss(self, client: redis.Redis, damage) -> None:  # type: ignore[no-untyped-def]
        cache(client).put_many({"a": vector(1), "b": vector(2)})
        (key,) = client.keys("*:a")
        client.set(key, damage(client.get(key)))
        assert set(cache(client).get_many(["a", "b"])) == {"b"}

    def test_a_vector_of_another_length_is_a_miss(self, client: redis.Redis) -> None:
        cache(client, dimensions=3).put_many({"a": vector(1, 3)})
        assert cache(client, dimensions=4).get_many(["a"]) == {}


class TestInTheProcess:
    def test_what_it_holds_is_found_without_redis(self, client: redis.Redis) -> None:
        one = cache(client, local_entries=10)
        one.put_many({"a": vector(1)})
        client.flushall()
        assert set(one.get_many(["a", "b"])) == {"a"}

    def test_what_redis_gave_is_held(self, client: redis.Redis) -> None:
        cache(client).put_many({"a": vector(1)})
        other = cache(client, local_entries=10)
        other.get_many(["a"])
        client.flushall()
        assert set(other.get_many(["a"])) == {"a"}

    def test_the_oldest_entries_make_room(self, client: redis.Redis) -> None:
        one = cache(client, local_entries=2)
        one.put_many({str(n): vector(n) for n in range(5)})
        client.flushall()
        assert set(one.get_many(map(str, range(5)))) == {"3", "4"}

    def test_it_holds_nothing_when_told_so(self, client: redis.Redis) -> None:
        one = cache(client, local_entries=0)
        one.put_many({"a": vector(1)})
        client.flushall()
        assert one.get_many(["a"]) == {}

    def test_an_entry_that_ends_while_it_is_read_is_no_error(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = itertools.count()  # each look at it finds it one later
        monkeypatch.setattr(
            "embed_star.coordination.cache.TTLCache",
            lambda entries, ttl_s: TTLCache(entries, ttl_s, timer=clock.__next__),
        )
        for ttl_s in range(1, 40):
            one = cache(client, local_entries=10, local_ttl_s=ttl_s)
            one.put_many({name: vector(1) for name in "abcd"})
            assert len(one.get_many("abcd")) == 4

    def test_threads_find_what_they_kept(self, client: redis.Redis) -> None:
        one = cache(client, local_entries=50)
        start = threading.Barrier(4)

        def use(thread: int) -> None:
            start.wait()
            for n in range(50):
                names = [str((thread * 7 + n + i) % 100) for i in range(10)]
                one.put_many({name: vector(float(name)) for name in names})
                for name, found in one.get_many(names).items():
                    assert np.array_equal(found, vector(float(name)))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(use, range(4)))


class TestWithoutRedis:
    @pytest.fixture
    def nowhere(self) -> Iterator[redis.Redis]:
        with connection.connect("redis://:hunter2@127.0.0.1:1/0", 0.5) as client:
            yield client

    def test_it_says_so_without_the_password(self, nowhere: redis.Redis) -> None:
        with pytest.raises(RedisUnavailable, match="cannot read the cache") as caught:
            cache(nowhere).get_many(["a"])
        assert "hunter2" not in str(caught.value)

    def test_what_was_paid_for_stays_in_the_process(self, nowhere: redis.Redis) -> None:
        one = cache(nowhere, local_entries=10)
        with pytest.raises(RedisUnavailable, match="cannot write the cache"):
            one.put_many({"a": vector(1)})
        assert set(one.get_many(["a"])) == {"a"}
