"""The vector cache over each `CacheBackend`, memory and Redis: what is a hit, and what a miss."""

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
from embed_star.coordination.cache import (
    CacheBackend,
    RedisCacheBackend,
    Vector,
    VectorCache,
)
from embed_star.coordination.memory import MemoryCacheBackend
from embed_star.errors import RedisUnavailable
from embed_star.events import CacheRead, Emit, ignore_event
from tests.support.servers import eventually

DIMENSIONS = 4


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def backend(request: pytest.FixtureRequest) -> CacheBackend:
    """What several processes share."""
    if request.param == "memory":
        # Each look at the clock finds it 10 ms later.
        return MemoryCacheBackend(itertools.count(0.0, 0.01).__next__)
    return RedisCacheBackend(request.getfixturevalue("client"))


def forget(backend: CacheBackend) -> None:
    """What a Redis that is restarted does."""
    if isinstance(backend, MemoryCacheBackend):
        backend.clear()
    else:
        assert isinstance(backend, RedisCacheBackend)
        backend._client.flushall()


def cache(
    backend: CacheBackend,
    space: str = "space",
    *,
    dimensions: int = DIMENSIONS,
    local_entries: int = 0,
    ttl_s: float = 60.0,
    local_ttl_s: float = 60.0,
    source: str = "",
    emit: Emit = ignore_event,
) -> VectorCache:
    return VectorCache(
        backend,
        space,
        dimensions,
        source=source,
        ttl_s=ttl_s,
        local_entries=local_entries,
        local_ttl_s=local_ttl_s,
        emit=emit,
    )


def vector(value: float, dimensions: int = DIMENSIONS) -> Vector:
    return np.linspace(-value, value / 3, dimensions, dtype=np.float32)


class TestShared:
    def test_another_process_finds_it_bit_by_bit(self, backend: CacheBackend) -> None:
        odd = np.array([1e-45, -0.0, 3.4e38, 1 / 3], dtype=np.float32)
        cache(backend).put_many({"a": vector(1), "b": odd})
        found = cache(backend).get_many(["b", "missing", "a", "b"])
        assert set(found) == {"a", "b"}
        assert found["b"].tobytes() == odd.tobytes()
        assert found["a"].dtype == np.float32

    def test_no_texts_ask_nothing(self, backend: CacheBackend) -> None:
        cache(backend).put_many({})
        assert cache(backend).get_many([]) == {}

    def test_spaces_never_mix(self, backend: CacheBackend) -> None:
        cache(backend, "one").put_many({"a": vector(1)})
        assert cache(backend, "two").get_many(["a"]) == {}
        assert cache(backend, "on").get_many(["e:a"]) == {}

    def test_an_entry_has_an_end(self, backend: CacheBackend) -> None:
        short, long = cache(backend, ttl_s=0.05), cache(backend, ttl_s=60.0)
        short.put_many({"a": vector(1)})
        long.put_many({"b": vector(1)})
        eventually(lambda: set(long.get_many(["a", "b"])) == {"b"}, "the shorter one ends")

    def test_servers_never_mix_unless_told_so(self, backend: CacheBackend) -> None:
        one, two = cache(backend, source="one"), cache(backend, source="two")
        one.put_many({"a": vector(1)})
        assert two.get_many(["a"]) == {}
        assert set(two.get_from("one", ["a", "b", "a"])) == {"a"}
        assert set(one.get_from("", ["a"])) == {"a"}
        assert two.get_from("two", ["a"]) == {}

    def test_what_is_told_of_is_there_for_other_processes(self, backend: CacheBackend) -> None:
        told: list[object] = []
        one = cache(backend, local_entries=10, emit=told.append)
        one.put_many({"a": vector(1)})
        forget(backend)
        assert cache(backend).get_many(["a"]) == {}
        assert set(one.get_shared(["a", "b", "a"])) == {"a"}
        assert set(cache(backend).get_many(["a"])) == {"a"}
        assert told == [CacheRead(1, 1)]

    def test_a_later_vector_replaces_an_earlier_one(self, backend: CacheBackend) -> None:
        cache(backend).put_many({"a": vector(1)})
        cache(backend).put_many({"a": vector(2)})
        assert np.array_equal(cache(backend).get_many(["a"])["a"], vector(2))

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
    def test_a_torn_entry_is_a_miss(self, backend: CacheBackend, damage) -> None:  # type: ignore[no-untyped-def]
        cache(backend).put_many({"a": vector(1), "b": vector(2)})
        name = cache(backend).name("a", "")
        (blob,) = backend.get_many([name])
        backend.set_many({name: damage(blob)}, 60.0)
        assert set(cache(backend).get_many(["a", "b"])) == {"b"}

    def test_a_vector_of_another_length_is_a_miss(self, backend: CacheBackend) -> None:
        cache(backend, dimensions=3).put_many({"a": vector(1, 3)})
        assert cache(backend, dimensions=4).get_many(["a"]) == {}


class TestInTheProcess:
    def test_what_it_holds_is_found_without_redis(self, backend: CacheBackend) -> None:
        one = cache(backend, local_entries=10)
        one.put_many({"a": vector(1)})
        forget(backend)
        assert set(one.get_many(["a", "b"])) == {"a"}

    def test_what_redis_gave_is_held(self, backend: CacheBackend) -> None:
        cache(backend).put_many({"a": vector(1)})
        other = cache(backend, local_entries=10)
        other.get_many(["a"])
        forget(backend)
        assert set(other.get_many(["a"])) == {"a"}

    def test_the_oldest_entries_make_room(self, backend: CacheBackend) -> None:
        one = cache(backend, local_entries=2)
        one.put_many({str(n): vector(n) for n in range(5)})
        forget(backend)
        assert set(one.get_many(map(str, range(5)))) == {"3", "4"}

    def test_it_holds_nothing_when_told_so(self, backend: CacheBackend) -> None:
        one = cache(backend, local_entries=0)
        one.put_many({"a": vector(1)})
        forget(backend)
        assert one.get_many(["a"]) == {}

    def test_an_entry_that_ends_while_it_is_read_is_no_error(
        self, backend: CacheBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = itertools.count()  # each look at it finds it one later
        monkeypatch.setattr(
            "embed_star.coordination.cache.TTLCache",
            lambda entries, ttl_s: TTLCache(entries, ttl_s, timer=clock.__next__),
        )
        for ttl_s in range(1, 40):
            one = cache(backend, local_entries=10, local_ttl_s=ttl_s)
            one.put_many({name: vector(1) for name in "abcd"})
            assert len(one.get_many("abcd")) == 4

    def test_threads_find_what_they_kept(self, backend: CacheBackend) -> None:
        one = cache(backend, local_entries=50)
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


class TestInRedis:
    """What only the backend in Redis has."""

    def test_nothing_kept_writes_nothing(self, client: redis.Redis) -> None:
        cache(RedisCacheBackend(client)).put_many({})
        assert client.dbsize() == 0

    def test_an_entry_ends_by_redis_s_clock(self, client: redis.Redis) -> None:
        cache(RedisCacheBackend(client), ttl_s=60.0).put_many({"a": vector(1)})
        (key,) = client.keys()
        assert 0 < client.pttl(key) <= 60_000
        client.delete(key)
        assert cache(RedisCacheBackend(client)).get_many(["a"]) == {}


class TestWithoutRedis:
    @pytest.fixture
    def nowhere(self) -> Iterator[CacheBackend]:
        with connection.connect("redis://:hunter2@127.0.0.1:1/0", 0.5) as client:
            yield RedisCacheBackend(client)

    def test_it_says_so_without_the_password(self, nowhere: CacheBackend) -> None:
        with pytest.raises(RedisUnavailable, match="cannot read the cache") as caught:
            cache(nowhere).get_many(["a"])
        assert "hunter2" not in str(caught.value)

    def test_what_was_paid_for_stays_in_the_process(self, nowhere: CacheBackend) -> None:
        one = cache(nowhere, local_entries=10)
        with pytest.raises(RedisUnavailable, match="cannot write the cache"):
            one.put_many({"a": vector(1)})
        assert set(one.get_many(["a"])) == {"a"}
