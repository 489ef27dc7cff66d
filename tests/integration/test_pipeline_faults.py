"""Blame falls where it belongs: a provider's fault costs no row, a row's no neighbour."""

from __future__ import annotations

import math

import pytest

from embed_star.errors import (
    EmbedStarError,
    ProviderAuthError,
    ProviderConfigError,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    StoreUnavailable,
)
from embed_star.models import Status
from embed_star.services import Services
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.world import World

TRANSIENT = [ProviderUnavailable("503"), ProviderThrottled("429", 3.0)]
LASTING = [ProviderAuthError("401"), ProviderConfigError("404"), ProviderProtocolError("html")]


class TestAPoisonRow:
    @pytest.mark.parametrize("at", [0, 7, 15])
    def test_leaves_its_neighbours_embedded_in_the_same_run(self, world: World, at: int) -> None:
        world.write_many(16)
        world.write(at, full_name="poison")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 15, Status.FAILED: 1}
        assert len(world.provider.calls) <= 2 * math.log2(16) + 1
        assert set(world.failures()) == {str(at)}
        assert world.failures()[str(at)]["reason"] == "rejected"
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_several_are_all_found(self, world: World) -> None:
        world.write_many(9)
        for key in (0, 4, 8):
            world.write(key, full_name=f"poison {key}")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 6, Status.FAILED: 3}
        assert set(world.failures()) == {"0", "4", "8"}
        world.assert_current()

    def test_two_rows_of_the_same_refused_text(self, world: World) -> None:
        world.write("a", full_name="poison")
        world.write("b", full_name="poison")
        world.write("c", full_name="fine")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1, Status.FAILED: 2}
        world.assert_current()

    def test_a_call_that_is_too_large_costs_no_row(self, world: World) -> None:
        world.write_many(10)
        world.provider.most_texts = 3
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 10}
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_what_was_paid_for_before_an_outage_is_kept(self, world: World) -> None:
        world.write_many(8)
        world.write(7, full_name="poison")
        batch = world.claim()
        provider = world.provider

        def outage_at_the_fourth(_: object) -> None:
            if len(provider.calls) == 4:
                raise ProviderUnavailable("gone")

        provider.rejects = lambda text: "poison" in text
        provider.during = outage_at_the_fourth
        with pytest.raises(ProviderUnavailable):
            world.embed(batch, final=False)
        assert len(provider.paid) == 4 + 2
        assert world.carry_out(batch) == {
            Status.CACHED: 6,
            Status.EMBEDDED: 1,
            Status.FAILED: 1,
        }
        assert max(provider.paid.values()) == 1
        world.assert_current()


class TestABadVector:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (math.nan, "not_finite"),
            (math.inf, "not_finite"),
            (-math.inf, "not_finite"),
            (0.0, "constant"),
            (0.3, "constant"),
            (1e30, "constant"),
        ],
    )
    def test_sets_that_row_alone_aside(self, world: World, value: float, reason: str) -> None:
        world.write_many(4)
        world.write(2, full_name="bad")
        world.provider.bad = {"bad": value}
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 3, Status.FAILED: 1}
        assert set(world.vectors()) == {"0", "1", "3"}
        assert world.failures()["2"]["reason"] == reason
        assert len(world.provider.calls) == 1
        world.assert_current()

    def test_is_not_cached(self, world: World) -> None:
        world.write(1, full_name="bad")
        world.provider.bad = {"bad": math.nan}
        world.settle()
        world.provider.bad = {}
        world.write(2, full_name="bad")
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}

    def test_of_wrong_dimensions_never_arrives(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.dimensions = DIMENSIONS + 1
        assert world.carry_out(batch) == {Status.DEFERRED: 2}
        assert world.vectors() == {}
        assert world.failures() == {}
        assert len(world.outbox()) == 2


class TestAProviderAtFault:
    @pytest.mark.parametrize("error", TRANSIENT, ids=repr)
    def test_for_a_while(self, world: World, error: EmbedStarError) -> None:
        world.write_many(3)
        batch = world.claim()
        world.provider.errors = [error, error]
        with pytest.raises(type(error)):
            world.embed(batch, final=False)
        assert world.carry_out(batch) == {Status.DEFERRED: 3}
        assert world.failures() == {}
        assert len(world.outbox()) == 3
        assert world.carry_out(batch) == {Status.EMBEDDED: 3}  # the locks were kept
        world.assert_current()

    @pytest.mark.parametrize("error", LASTING, ids=repr)
    def test_until_somebody_does_something(self, world: World, error: EmbedStarError) -> None:
        world.write_many(3)
        batch = world.claim()
        world.provider.errors = [error]
        assert world.save(batch, world.embed(batch, final=False)) == {Status.DEFERRED: 3}
        assert world.failures() == {}
        assert len(world.provider.calls) == 1
        assert world.carry_out(batch) == {Status.EMBEDDED: 3}
        world.assert_current()

    @pytest.mark.xfail(
        strict=True,
        reason="OPEN (fault 31): a text that crashes the provider keeps its whole batch pending",
    )
    def test_crashed_by_one_row(self, world: World) -> None:
        world.write_many(8)
        world.write(3, full_name="crash")

        def crash(texts: object) -> None:
            if "crash" in str(texts):
                raise ProviderUnavailable("the connection broke")

        world.provider.during = crash
        batch = world.claim()
        for _ in range(world.settings.retry_max):
            with pytest.raises(ProviderUnavailable):
                world.embed(batch, final=False)
        assert world.carry_out(batch)[Status.EMBEDDED] == 7


class TestLongCalls:
    def test_texts_are_split_by_their_tokens(self, make_world: MakeWorld) -> None:
        world = make_world(batch_max_tokens=100)
        for key in range(6):
            world.write(key, full_name="x" * 120 + str(key))
        (info,) = world.query("SELECT VALUE size FROM embedding_outbox")
        assert all(size > 120 for size in info)
        world.settle()
        assert sorted(len(call) for call in world.provider.calls) == [2, 2, 2]
        world.assert_current()

    def test_a_text_beyond_the_limit_goes_alone_and_cut(self, make_world: MakeWorld) -> None:
        world = make_world(batch_max_tokens=50, text_max_tokens=100)
        world.write(1, full_name="a" * 1_000_000)
        world.write(2, full_name="b")
        world.settle()
        assert {text for call in world.provider.calls for text in call} == {"a" * 300, "b"}
        world.assert_current()


class TestOutages:
    def test_of_the_cache_before_paying(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        cut_off = make_world(cache_url="redis://127.0.0.1:1/0")
        with pytest.raises(RedisUnavailable):
            cut_off.embed(batch, final=False)
        assert cut_off.provider.calls == []
        assert world.carry_out(batch) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_the_cache_between_the_tasks(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        cut_off = make_world(cache_url="redis://127.0.0.1:1/0")
        with pytest.raises(RedisUnavailable):
            cut_off.save(batch, outcomes)
        assert world.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_redis_after_the_write(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        # Runs and locks are cut off, the cache is there.
        url = world.settings.redis_url
        cut_off = make_world(redis_url="redis://127.0.0.1:1/0", cache_url=url)
        assert cut_off.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_the_database(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        cut_off = Services(world.settings.model_copy(update={"db_url": "ws://127.0.0.1:1"}))
        cut_off.provider = world.provider
        with pytest.raises(StoreUnavailable):
            cut_off.embedder.embed(batch, final=False)
        assert [one.status for one in cut_off.embedder.embed(batch)] == [Status.DEFERRED] * 2
        assert world.provider.calls == []
        outcomes = world.embed(batch)
        cut_off.cache.put_many({})
        with pytest.raises(StoreUnavailable):
            cut_off.storer.store(batch.run_id, outcomes)
        cut_off.close()
        assert world.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()
