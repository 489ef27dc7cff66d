"""A Redis that goes away, or takes no writes: nothing is paid for that cannot be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.errors import RedisUnavailable
from embed_star.models import Batch, Status
from tests.conftest import MakeWorld
from tests.support.world import World

ROWS = 6
REMOTE = {"embedding_provider": "ollama", "embedding_model": "m", "redis_timeout_s": 1.0}
"""A provider whose breaker and rate limit are the fleet's."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalServers]:
    """A Redis of the test's own, that it may stop and fill."""
    with LocalServers(tmp_path, ServerOptions(surrealdb=False, memory=True)) as servers:
        yield servers


@pytest.fixture
def world(make_world: MakeWorld, own: LocalServers) -> World:
    return make_world(**REMOTE, redis_url=own.redis_url)


@pytest.fixture
def divided(make_world: MakeWorld, own: LocalServers, redis_url: str) -> World:
    """The cache has another Redis than the test's own."""
    return make_world(**REMOTE, redis_url=own.redis_url, cache_url=redis_url)


def limit_memory(url: str, most: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", most)


def during_first_call(world: World, act: Callable[[], None]) -> None:
    """`act` while the provider works at the first call."""

    def during(_: object) -> None:
        if len(world.provider.calls) == 1:
            act()

    world.provider.during = during


def several_calls(make_world: MakeWorld, redis_url: str) -> tuple[World, Batch]:
    """A batch, and a world in which each of its `ROWS` texts is a call."""
    producer = make_world(**REMOTE, redis_url=redis_url)
    for key in range(ROWS):
        producer.write(key, full_name="x" * 120 + str(key))
    return make_world(**REMOTE, redis_url=redis_url, batch_max_tokens=50), producer.claim()


class TestAway:
    def test_before_the_call_nothing_is_paid_for(self, world: World, own: LocalServers) -> None:
        world.write_many(ROWS)
        batch = world.claim()
        own.stop_server("redis", grace_s=0)
        with pytest.raises(RedisUnavailable):
            world.embed(batch, final=False)
        assert {one.status for one in world.embed(batch)} == {Status.DEFERRED}
        assert world.provider.calls == []
        own.start_server("redis")
        assert world.carry_out(batch) == {Status.EMBEDDED: ROWS}
        world.assert_current()

    def test_before_the_call_with_a_cache_that_is_there(
        self, divided: World, own: LocalServers
    ) -> None:
        """Breaker and rate limit cannot be asked: the call is refused, and not made unlimited."""
        divided.write_many(ROWS)
        batch = divided.claim()
        own.stop_server("redis", grace_s=0)
        with pytest.raises(RedisUnavailable):
            divided.embed(batch, final=False)
        assert divided.provider.calls == []
        assert divided.failures() == {}

    def test_from_the_middle_of_a_call_on_its_vectors_are_kept(
        self, divided: World, own: LocalServers
    ) -> None:
        """Nobody can be told that the call went well, and it counts all the same."""
        divided.write_many(ROWS)
        batch = divided.claim()
        during_first_call(divided, lambda: own.stop_server("redis", grace_s=0))
        with capture_logs() as logs:
            outcomes = divided.embed(batch, final=False)
        assert {one.status for one in outcomes} == {Status.EMBEDDED}
        assert "call_not_reported" in [one["event"] for one in logs]
        assert divided.save(batch, outcomes) == {Status.EMBEDDED: ROWS}
        assert max(divided.provider.paid.values()) == 1
        divided.assert_current()

    def test_from_the_middle_of_a_batch_on_no_call_is_begun(
        self, make_world: MakeWorld, own: LocalServers
    ) -> None:
        world, batch = several_calls(make_world, own.redis_url)
        during_first_call(world, lambda: own.stop_server("redis", grace_s=0))
        with pytest.raises(RedisUnavailable):
            world.embed(batch, final=False)
        with pytest.raises(RedisUnavailable):
            world.embed(batch, final=False)
        assert len(world.provider.calls) == 1
        own.start_server("redis")
        tally = world.carry_out(batch)
        assert tally == {Status.CACHED: 1, Status.EMBEDDED: ROWS - 1}
        assert len(world.provider.paid) == ROWS
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_a_search_goes_on_without_a_rate_limit_and_says_so_once(
        self, world: World, own: LocalServers
    ) -> None:
        world.write_many(ROWS)
        world.settle()
        own.stop_server("redis", grace_s=0)
        with capture_logs() as logs:
            for n in range(3):
                assert len(world.services.search.find(f"a question {n}", 2)) == 2
        said = [one for one in logs if one["event"] == "budget_without_redis"]
        assert [one["log_level"] for one in said] == ["warning"]
        own.start_server("redis")
        assert world.services.search.find("another question", 1)


class TestFull:
    """It answers, and takes no writes."""

    def test_nothing_is_paid_for(self, world: World, own: LocalServers) -> None:
        world.write_many(ROWS)
        batch = world.claim()
        limit_memory(own.redis_url, "1")
        for _ in range(3):
            with pytest.raises(RedisUnavailable, match="out of memory"):
                world.embed(batch, final=False)
        assert world.provider.calls == []
        limit_memory(own.redis_url, "0")
        assert world.carry_out(batch) == {Status.EMBEDDED: ROWS}
        world.assert_current()

    def test_nor_where_only_the_cache_s_is(
        self, make_world: MakeWorld, own: LocalServers, redis_url: str
    ) -> None:
        world = make_world(**REMOTE, redis_url=redis_url, cache_url=own.redis_url)
        world.write_many(ROWS)
        batch = world.claim()
        limit_memory(own.redis_url, "1")
        with pytest.raises(RedisUnavailable, match="out of memory"):
            world.embed(batch, final=False)
        assert world.provider.calls == []
        limit_memory(own.redis_url, "0")
        assert world.carry_out(batch) == {Status.EMBEDDED: ROWS}

    def test_from_the_middle_of_a_batch_on_no_call_is_begun(
        self, make_world: MakeWorld, own: LocalServers
    ) -> None:
        world, batch = several_calls(make_world, own.redis_url)
        during_first_call(world, lambda: limit_memory(own.redis_url, "1"))
        for _ in range(2):
            with pytest.raises(RedisUnavailable, match="out of memory"):
                world.embed(batch, final=False)
        assert len(world.provider.calls) == 1
        limit_memory(own.redis_url, "0")
        assert world.carry_out(batch) == {Status.CACHED: 1, Status.EMBEDDED: ROWS - 1}
        assert max(world.provider.paid.values()) == 1
        world.assert_current()
