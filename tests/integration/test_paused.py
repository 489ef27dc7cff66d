"""While the provider is paused, its rows wait in the database, unclaimed, at no cost."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from embed_star.calling.breaker.breaker import Phase, Thresholds
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.embed.text import text_hash
from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderPaused,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.models import Status
from embed_star.produce.backlog import Tick
from embed_star.providers.base import Embeddings
from embed_star.services.calling import thresholds_of
from tests.conftest import MakeSettings, MakeWorld
from tests.support.scripted_answers import vector_for
from tests.support.world import Unclaimed, World

THRESHOLDS = Thresholds(failures=2, open_s=30.0, successes_to_close=2)


class Clock:
    """A time that passes when it is told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(make_world: MakeWorld, clock: Clock) -> World:
    world = make_world(batch_size=2)
    world.services.breaker = MemoryBreaker(THRESHOLDS, clock)
    return world


def open_it(world: World) -> None:
    breaker = world.services.breaker
    for _ in range(THRESHOLDS.failures):
        breaker.failed(breaker.admit())
    assert breaker.state().phase is Phase.OPEN


def outage(world: World) -> None:
    def fail(_: object) -> None:
        raise ProviderUnavailable("503")

    world.provider.during = fail


class TestWhenItOpens:
    def test_rows_wait_unlocked_and_no_retry_is_used(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        outage(world)
        # The call's failure is the second, after that of our own text: it opens.
        outcomes = world.embed(batch, final=False)
        assert len(world.provider.calls) <= 1 + THRESHOLDS.failures
        assert {(one.status, one.reason) for one in outcomes} == {(Status.DEFERRED, "paused")}
        assert world.locks() == {}
        assert world.services.redis.keys(f"{world.services.redis_prefix}lock:*") == []
        assert world.save(batch, outcomes) == {Status.DEFERRED: 2}
        assert world.failures() == {}
        assert len(world.outbox()) == 2

    @pytest.mark.parametrize("error", [ProviderAuthError("401"), ProviderConfigError("404")])
    def test_at_once_where_the_next_call_would_fail_too(
        self, world: World, error: EmbedStarError
    ) -> None:
        world.write_many(2)
        world.provider.down = error
        assert world.carry_out(world.claim()) == {Status.DEFERRED: 2}
        assert len(world.provider.calls) == 2, "our own text is asked for once"
        assert world.services.breaker.state().phase is Phase.OPEN
        assert world.locks() == {}

    @pytest.mark.parametrize("error", [ProviderThrottled("429", 1.0), InputRejected("400")])
    def test_never_for_what_is_not_the_provider_s_fault(
        self, world: World, error: EmbedStarError
    ) -> None:
        world.write_many(2)
        batch = world.claim()
        for _ in range(10):
            world.provider.errors = [error]
            with suppress(ProviderThrottled):  # to be tried again later
                world.embed(batch)
        assert world.services.breaker.state().failures == 0

    def test_at_once_for_vectors_of_a_wrong_length(self, world: World) -> None:
        world.write_many(2)
        embed = world.provider.embed
        world.provider.embed = lambda *asked: Embeddings(embed(*asked).vectors[:, :5])  # type: ignore[method-assign]
        assert world.carry_out(world.claim()) == {Status.DEFERRED: 2}
        assert world.services.breaker.state().phase is Phase.OPEN


class TestWhileOpen:
    def test_nothing_is_claimed(self, world: World) -> None:
        world.write_many(5)
        open_it(world)
        backlog, recorder = world.backlog()
        assert backlog.dispatch() == Tick(0, 0, 30.0)
        assert recorder.runs == []
        assert world.locks() == {}

    def test_what_needs_no_call_is_done_all_the_same(
        self, make_world: MakeWorld, clock: Clock
    ) -> None:
        world = make_world()
        world.services.breaker = MemoryBreaker(THRESHOLDS, clock)
        for key in ("new", "known", "gone"):
            world.write(key, full_name=key)
        batch = world.claim()
        vector = vector_for("known", world.settings.dimensions)
        world.services.cache.put_many({text_hash("known"): vector})
        world.delete("gone")
        open_it(world)
        tally = world.carry_out(batch)
        assert tally == {Status.CACHED: 1, Status.GONE: 1, Status.DEFERRED: 1}
        assert world.provider.calls == []
        assert world.locks() == {}

    def test_what_was_paid_for_before_it_opened_is_kept(self, make_world: MakeWorld) -> None:
        world = make_world(text_max_tokens=100)
        world.write_many(8)
        world.write(7, full_name="poison")
        world.provider.rejects = lambda text: "poison" in text

        def revoke(_: object) -> None:
            if world.provider.paid:
                raise ProviderAuthError("401")

        world.provider.during = revoke
        world.services.breaker = MemoryBreaker(THRESHOLDS)
        batch = world.claim()
        assert world.carry_out(batch) == {Status.EMBEDDED: 4, Status.DEFERRED: 4}
        assert world.locks() == {}


class TestTheWayBack:
    def test_no_rewind_is_awaited_after_a_pause_that_was_seen(
        self, world: World, clock: Clock
    ) -> None:
        world.write_many(4)
        backlog, recorder = world.backlog()
        backlog._lanes._wall_clock = lambda: time.time() + 3600.0  # nothing pending is recent
        backlog.dispatch()
        open_it(world)
        assert backlog.dispatch() == Tick(0, 4, 30.0)
        for batch in recorder.batches:
            world.carry_out(batch)
        clock.now_s += 30.0
        breaker = world.services.breaker
        for _ in range(THRESHOLDS.successes_to_close):
            breaker.succeeded(breaker.admit())
        assert backlog.dispatch().dispatched == 4

    def test_one_batch_goes_out_and_its_worker_probes(self, world: World, clock: Clock) -> None:
        world.write_many(7)
        open_it(world)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        clock.now_s += 30.0
        assert backlog.dispatch() == Tick(2, 2, 0.0)
        assert backlog.dispatch() == Tick(0, 2, 0.0)  # until a worker has begun it
        (batch,) = recorder.batches
        assert world.carry_out(batch) == {Status.EMBEDDED: 2}
        assert world.provider.calls[:2] == [(PROBE_TEXT,)] * 2
        assert len(world.provider.calls) == 3
        assert world.services.breaker.state().phase is Phase.CLOSED
        assert backlog.dispatch().dispatched == 5
        for batch in recorder.batches[1:]:
            world.carry_out(batch)
        world.assert_current()

    def test_a_failed_probe_costs_one_call_and_no_retry(self, world: World, clock: Clock) -> None:
        world.write_many(2)
        batch = world.claim()
        open_it(world)
        clock.now_s += 30.0
        outage(world)
        assert {one.status for one in world.embed(batch, final=False)} == {Status.DEFERRED}
        assert world.provider.calls == [(PROBE_TEXT,)]
        assert world.locks() == {}
        assert world.backlog()[0].dispatch() == Tick(0, 2, 30.0)

    def test_a_row_that_breaks_the_provider_does_not_keep_it_paused(
        self, world: World, clock: Clock
    ) -> None:
        world.write_many(2)
        batch = world.claim()
        open_it(world)
        clock.now_s += 30.0

        def crash(texts: object) -> None:
            if texts != [PROBE_TEXT]:
                raise ProviderUnavailable("the connection broke")

        world.provider.during = crash
        assert {one.status for one in world.embed(batch)} == {Status.FAILED}
        assert world.services.breaker.state().phase is Phase.CLOSED

    def test_a_refused_probe_blames_no_row(self, world: World, clock: Clock) -> None:
        world.write_many(2)
        batch = world.claim()
        open_it(world)
        clock.now_s += 30.0
        world.provider.rejects = lambda _: True
        assert world.carry_out(batch) == {Status.DEFERRED: 2}
        assert world.failures() == {}
        assert world.services.breaker.state().phase is Phase.OPEN

    def test_locks_outlast_the_probes(self, world: World, clock: Clock) -> None:
        """The claim is renewed before probes as well."""
        open_it(world)
        clock.now_s += 30.0
        seen: list[int] = []

        class Seen:
            def renew(self) -> None:
                seen.append(len(world.provider.calls))

        with world.services.gateway.embed(["x"], Seen()):
            assert seen == [0, 1, 2]

    def test_a_call_while_paused_is_refused(self, world: World) -> None:
        open_it(world)
        with (
            pytest.raises(ProviderPaused, match="paused"),
            world.services.gateway.embed(["x"], Unclaimed()),
        ):
            pass


def test_thresholds_are_the_provider_s_unless_set(make_settings: MakeSettings) -> None:
    assert thresholds_of(make_settings()) is None
    usual = thresholds_of(make_settings(embedding_provider="ollama"))
    assert usual == Thresholds(failures=3, open_s=30.0, successes_to_close=2, probe_s=35.0)
    own = make_settings(embedding_provider="ollama", breaker_failures=7, breaker_open_s=1.5)
    assert thresholds_of(own) == Thresholds(7, 1.5, 2, probe_s=35.0)
