"""Faults of the provider, of Redis and of the database cost no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from embed_star.calling.breaker.breaker import NeverOpen
from embed_star.calling.gateway import CallLimits, ProviderGateway
from embed_star.calling.rate_limit.memory import MemoryRateLimiter
from embed_star.calling.rate_limit.rate_limiter import Limits as RateLimits
from embed_star.claims.claims import Claims
from embed_star.embed.bisection import Bisector
from embed_star.embed.embedder import Embedder, Limits
from embed_star.embed.poison import RedisPoisonCounter
from embed_star.embed.text import estimate_tokens, text_hash
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
from embed_star.models import Key, Status
from embed_star.services import Services
from embed_star.store.tables.locks import LockTable
from tests.conftest import MakeWorld
from tests.support.world import World


@dataclass
class Clock:
    """A time that passes when it is told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


TRANSIENT = [ProviderUnavailable("503")]

LASTING = [ProviderAuthError("401"), ProviderConfigError("404"), ProviderProtocolError("html")]


class TestAProviderAtFault:
    @pytest.mark.parametrize("error", TRANSIENT, ids=repr)
    def test_for_a_while_defers_the_rows_and_keeps_their_locks(
        self, world: World, error: EmbedStarError
    ) -> None:
        world.write_many(3)
        batch = world.claim()
        world.provider.down = error
        with pytest.raises(type(error)):
            world.embed(batch, final=False)
        assert world.carry_out(batch) == {Status.DEFERRED: 3}
        assert world.failures() == {}
        assert len(world.outbox()) == 3
        world.provider.down = None
        assert world.carry_out(batch) == {Status.EMBEDDED: 3}  # the locks were kept
        world.assert_current()

    def test_that_asks_for_a_short_pause_is_retried_after_it(self, world: World) -> None:
        """Whichever attempt it is: a wait is no failure, and the locks outlast it."""
        world.write_many(3)
        batch = world.claim()
        world.provider.errors = [ProviderThrottled("429", 3.0)]
        with pytest.raises(ProviderThrottled) as caught:
            world.embed(batch, final=True)
        assert caught.value.retry_after_s == 3.0
        assert world.failures() == {}
        assert world.services.rate_limiter.state().paused_s > 2.0  # for everybody

    def test_that_asks_for_a_long_pause_defers_the_rows(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        world.provider.errors = [ProviderThrottled("429", 3600.0)]
        assert world.save(batch, world.embed(batch, final=False)) == {Status.DEFERRED: 3}
        assert world.failures() == {}
        assert len(world.outbox()) == 3
        backlog, _ = world.backlog()
        world.write("new", full_name="new")
        assert backlog.dispatch().dispatched == 0  # until it is over

    @pytest.mark.parametrize("error", LASTING, ids=repr)
    def test_for_good_defers_the_rows_without_a_retry(
        self, world: World, error: EmbedStarError
    ) -> None:
        world.write_many(3)
        batch = world.claim()
        world.provider.down = error
        assert world.save(batch, world.embed(batch, final=False)) == {Status.DEFERRED: 3}
        assert world.failures() == {}
        world.provider.down = None
        assert world.carry_out(batch) == {Status.EMBEDDED: 3}
        world.assert_current()


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


def make_embedder(
    world: World, clock: Clock, lock_table: LockTable, call_s: float = 35.0
) -> Embedder:
    """That of `world`, one call at a time, with this time and these locks."""
    services = world.services
    return Embedder(
        repos=services.store.repos,
        passages=services.store.passages,
        claims=Claims(
            services.locks, lock_table, ttl_s=45.0, renew_before_s=call_s + 1.0, clock=clock
        ),
        ledger=services.ledger,
        cache=services.cache,
        bisector=Bisector(
            gateway=ProviderGateway(
                world.provider,
                breaker=NeverOpen(),
                rate_limiter=MemoryRateLimiter(RateLimits()),
                canary=services.canary,
                shutdown=services.shutdown,
                limits=CallLimits(
                    dimensions=services.space.dimensions,
                    first_calls=1,
                    most_calls=1,
                    throttled_pause_s=1.0,
                    estimate_tokens=estimate_tokens,
                ),
            ),
            cache=services.cache,
            validator=services.validator,
            suspects=RedisPoisonCounter(services.redis, services.redis_prefix),
            throttled=services.throttled,
            batch_max_tokens=10_000,
            batch_texts=100,
            most_s=1000.0,
            clock=clock,
        ),
        space_watch=services.store.space_watch,
        limits=Limits(1000, defer_max_s=30.0, redelivered_s=600.0, turn_s=3.0),
    )


class TestLocksDuringCalls:
    """However long the calls before took, no lock ends under the next one."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def world(self, make_world: MakeWorld) -> World:
        return make_world(lock_ttl_s=45.0)

    def embed(self, world: World, clock: Clock, seconds_a_call: float) -> list[bool]:
        """Embed a poisoned batch; for each call, whether its locks were made longer for it."""
        services = world.services
        extended: list[float] = []

        class Watched(LockTable):
            def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
                extended.append(clock.now_s)
                return super().extend(keys, token, ttl_s)

        embedder = make_embedder(world, clock, Watched(services.store.database))
        began: list[float] = []

        def call(_: object) -> None:
            began.append(clock.now_s)
            clock.now_s += seconds_a_call

        world.provider.during = call
        world.provider.rejects = lambda text: text.endswith("3")
        world.write_many(4)
        outcomes = embedder.embed(world.claim())
        assert [one.status for one in outcomes] == [Status.EMBEDDED] * 3 + [Status.FAILED]
        assert len(began) == 6  # two of them for our own text
        return [at in extended for at in began]

    def test_short_calls_need_no_extension(self, world: World, clock: Clock) -> None:
        assert self.embed(world, clock, 0.5) == [False] * 6

    def test_long_calls_extend_the_locks_before_each(self, world: World, clock: Clock) -> None:
        assert self.embed(world, clock, 20.0) == [False] + [True] * 5

    def test_an_extension_is_good_for_the_calls_after_it(self, world: World, clock: Clock) -> None:
        assert self.embed(world, clock, 5.0) == [False, False, True, False, True, False]

    def test_locks_in_redis_are_made_longer_too(self, make_world: MakeWorld) -> None:
        world = make_world(lock_ttl_s=45.0)
        world.write(1, full_name="x")
        batch = world.claim()
        name = f"{world.services.redis_prefix}lock:1"
        world.services.redis.pexpire(name, 10_000)
        world.store.locks.extend([1], batch.run_id, 10.0)
        world.embed(batch)
        assert cast("int", world.services.redis.pttl(name)) > 30_000
        (state,) = world.store.repos.load([1], batch.run_id)
        assert state.lock_left_s is not None
        assert state.lock_left_s > 30


class TestLocksThatEndBeforeTheCall:
    """A process that stands still for longer than locks last, its rows loaded."""

    def embed(self, world: World, lost: Sequence[Key], meanwhile: Sequence[str]) -> list[Status]:
        """Embed all; `lost` are another run's, and `meanwhile` paid for, before the call."""
        batch = world.claim()
        services = world.services

        class Late(LockTable):
            def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
                if not taken:
                    taken.extend(lost)
                    world.lose(batch, *lost)
                    assert services.store.locks.acquire(lost, "another run", 45.0)
                    for one in meanwhile:
                        vectors = world.provider.embed([one]).vectors
                        services.cache.put_many({text_hash(one): vectors[0]})
                return super().extend(keys, token, ttl_s)

        taken: list[Key] = []
        late = Late(services.store.database)
        embedder = make_embedder(world, Clock(), late, call_s=60.0)  # looked at before each call
        return [one.status for one in embedder.embed(batch)]

    def test_rows_of_another_run_are_not_paid_for(self, world: World) -> None:
        world.write_many(4)
        found = self.embed(world, [0, 1, 2], [])
        assert found == [Status.LOST] * 3 + [Status.EMBEDDED]
        assert world.provider.calls == [(world.text_of(full_name="owner/name3"),)]

    def test_without_a_lock_left_nothing_is_paid(self, world: World) -> None:
        world.write_many(2)
        assert self.embed(world, [0, 1], []) == [Status.LOST] * 2
        assert world.provider.calls == []

    def test_what_was_paid_for_meanwhile_is_not_paid_for_again(self, world: World) -> None:
        """Two rows of one text, and the other run had the first."""
        for key in range(2):
            world.write(key, full_name="twin")
        twin = world.text_of(full_name="twin")
        assert self.embed(world, [0], [twin]) == [Status.LOST, Status.CACHED]
        assert world.provider.calls == [(twin,)]


class TestOutages:
    def test_of_the_cache_ends_a_batch_before_it_is_paid(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        cut_off = make_world(cache_url="redis://127.0.0.1:1/0")
        with pytest.raises(RedisUnavailable):
            cut_off.embed(batch, final=False)
        assert cut_off.provider.calls == []
        assert world.carry_out(batch) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_the_cache_between_the_tasks_keeps_what_was_paid(
        self, make_world: MakeWorld
    ) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        cut_off = make_world(cache_url="redis://127.0.0.1:1/0")
        with pytest.raises(RedisUnavailable):
            cut_off.save(batch, outcomes)
        assert world.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_redis_after_the_write_costs_nothing(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        # Runs and locks are cut off, the cache is there.
        url = world.settings.redis_url
        cut_off = make_world(redis_url="redis://127.0.0.1:1/0", cache_url=url)
        assert cut_off.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()

    def test_of_the_database_costs_nothing(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(2)
        batch = world.claim()
        cut_off = Services(world.settings.model_copy(update={"db_url": "ws://127.0.0.1:1"}))
        cut_off.installation = world.services.installation  # known since before
        cut_off.provider = world.provider
        with pytest.raises(StoreUnavailable):
            cut_off.embedder.embed(batch, final=False)
        assert [one.status for one in cut_off.embedder.embed(batch)] == [Status.DEFERRED] * 2
        assert world.provider.calls == []
        outcomes = world.embed(batch)
        with pytest.raises(StoreUnavailable):
            cut_off.storer.store(batch.run_id, outcomes)
        cut_off.close()
        assert world.save(batch, outcomes) == {Status.EMBEDDED: 2}
        world.assert_current()
