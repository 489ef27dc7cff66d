"""The Embedder: what a batch costs, and what becomes of each of its rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embed_star.embed.text import text_hash
from embed_star.errors import (
    AnotherSpace,
    ProviderAuthError,
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    TakenOver,
)
from embed_star.models import Lane, Outcome, Status
from tests.support.memory_services import CALL_S, LOCK_TTL_S, TURN_S
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld

CACHED, EMBEDDED, FAILED = Status.CACHED, Status.EMBEDDED, Status.FAILED
DEFERRED, GONE, LOST, UNCHANGED = Status.DEFERRED, Status.GONE, Status.LOST, Status.UNCHANGED


def statuses(outcomes: list[Outcome]) -> list[Status]:
    return [one.status for one in outcomes]


class TestWhatIsPaidFor:
    def test_new_row_is_paid_for_once(self, world: MemoryWorld) -> None:
        world.write("a/b", full_name="a/b", description="über", language="C", topics=["x", "y"])
        (outcome,) = world.embed(world.claim())
        text = "a/b\nüber\nC\nx, y"
        assert (outcome.status, outcome.text_hash) == (EMBEDDED, text_hash(text))
        assert not outcome.replaces
        assert world.provider.calls == [(text,)]

    def test_row_whose_text_is_unchanged_costs_nothing(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        world.settle()
        world.store.outbox.announce([(1, 0)], Lane.BACKFILL)
        assert statuses(world.embed(world.claim())) == [UNCHANGED]
        assert world.provider.calls == [("x",)]

    def test_row_whose_other_fields_changed_is_not_even_announced(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x", stargazers_count=1)
        world.settle()
        world.write(1, stargazers_count=2)
        assert world.outbox() == []

    def test_text_that_two_rows_share_is_paid_for_once(self, world: MemoryWorld) -> None:
        for key in range(5):
            world.write(key, full_name="same")
        assert statuses(world.embed(world.claim())) == [EMBEDDED] * 5
        assert world.provider.calls == [("same",)]

    def test_text_that_another_process_paid_for_costs_nothing(
        self, make_world: MakeMemoryWorld
    ) -> None:
        one, other = make_world(), make_world()
        one.write(1, full_name="same")
        one.settle()
        other.write(2, full_name="same")
        assert statuses(other.embed(other.claim())) == [CACHED]
        assert other.provider.calls == []

    def test_text_of_another_model_is_paid_for_anew(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write(1, full_name="same")
        old.settle()
        new = make_world(embedding_model="another")
        assert new.reconcile() == 1
        new.settle()
        assert new.provider.paid == {"same": 1}

    def test_message_that_comes_twice_costs_once(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        assert statuses(world.embed(batch)) == [EMBEDDED] * 3
        assert statuses(world.embed(batch)) == [CACHED] * 3
        assert max(world.provider.paid.values()) == 1

    def test_message_that_comes_after_the_run_costs_nothing(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        world.carry_out(batch)
        assert statuses(world.embed(batch)) == [LOST] * 3
        assert len(world.provider.calls) == 1

    def test_row_that_another_run_holds_costs_nothing(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        world.lose(batch, 1)
        assert statuses(world.embed(batch)) == [EMBEDDED, LOST, EMBEDDED]
        assert sorted(world.provider.paid) == ["owner/name0", "owner/name2"]

    def test_deleted_row_costs_nothing(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        world.delete(1)
        assert statuses(world.embed(batch)) == [GONE]
        assert world.provider.calls == []

    @pytest.mark.parametrize("fields", [{}, {"description": " \t"}, {"topics": []}])
    def test_row_with_nothing_to_say_costs_nothing(
        self, world: MemoryWorld, fields: dict[str, object]
    ) -> None:
        world.write(1, full_name=None, **fields)
        (outcome,) = world.embed(world.claim())
        assert (outcome.status, outcome.reason) == (FAILED, "empty_text")
        assert world.provider.calls == []

    def test_failed_row_costs_nothing_until_its_text_changes(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        calls = len(world.provider.calls)
        world.store.outbox.announce([(1, 0)], Lane.FRESH)
        assert world.carry_out(world.claim()) == {UNCHANGED: 1}
        assert len(world.provider.calls) == calls
        world.write(1, full_name="good")
        (outcome,) = world.embed(world.claim())
        assert (outcome.status, outcome.heals) == (EMBEDDED, True)

    def test_long_text_is_cut_and_marked(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(text_tokens=100)
        world.write("fits", full_name="a" * 300 + "\n")
        world.write("long", full_name="a" * 301)
        fits, long = world.embed(world.claim())
        assert (fits.cut, long.cut) == (False, True)
        assert world.provider.calls == [("a" * 300,)]

    def test_each_row_of_a_batch_has_its_own_outcome(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write("unchanged", full_name="u")
        world.write("gone", full_name="g")
        world.settle()
        world.store.outbox.announce([("unchanged", 0)], Lane.FRESH)
        world.delete("gone")
        world.write("poison", full_name="poison")
        world.write("empty", full_name="")
        world.write("cached", full_name="g")
        world.write("new", full_name="n")
        batch = world.claim()
        world.lose(batch, "new")
        assert {one.row.key: one.status for one in world.embed(batch)} == {
            "unchanged": UNCHANGED,
            "gone": GONE,
            "poison": FAILED,
            "empty": FAILED,
            "cached": CACHED,
            "new": LOST,
        }


class TestWhenTheProviderFails:
    def test_outage_is_raised_while_there_are_tries_left(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.down = ProviderUnavailable("503")
        with pytest.raises(ProviderUnavailable):
            world.embed(batch, final=False)
        assert set(world.locks()) == {"0", "1"}

    def test_outage_at_the_last_try_leaves_rows_pending(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.down = ProviderUnavailable("503")
        assert statuses(world.embed(batch)) == [DEFERRED] * 2
        assert world.save(batch, world.embed(batch)) == {DEFERRED: 2}
        assert len(world.outbox()) == 2
        assert world.failures() == {}

    def test_what_was_paid_for_before_an_outage_is_kept(self, world: MemoryWorld) -> None:
        world.write_many(8)
        world.write(7, full_name="poison")
        batch, provider = world.claim(), world.provider

        def outage(_: object) -> None:
            if len(provider.paid) == 4:
                raise ProviderUnavailable("gone")

        provider.rejects = lambda text: "poison" in text
        provider.during = outage
        with pytest.raises(ProviderUnavailable):
            world.embed(batch, final=False)
        provider.during = lambda _: None
        assert world.carry_out(batch) == {CACHED: 4, EMBEDDED: 3, FAILED: 1}
        assert max(provider.paid.values()) == 1

    def test_throttled_batch_keeps_its_locks_over_the_wait(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.clock.pass_s(LOCK_TTL_S - 5)
        world.provider.errors = [ProviderThrottled("429", 30.0)]
        with pytest.raises(ProviderThrottled):
            world.embed(batch)
        world.clock.pass_s(LOCK_TTL_S - 5)
        assert statuses(world.embed(batch)) == [EMBEDDED] * 2

    def test_batch_throttled_for_too_long_is_left_pending(
        self, make_world: MakeMemoryWorld
    ) -> None:
        world = make_world(defer_max_s=10.0)
        world.write_many(2)
        world.provider.errors = [ProviderThrottled("429", 30.0)]
        assert statuses(world.embed(world.claim())) == [DEFERRED] * 2

    @pytest.mark.parametrize("final", [True, False])
    def test_rows_of_a_paused_provider_are_unlocked_at_once(
        self, world: MemoryWorld, final: bool
    ) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.down = ProviderAuthError("401")
        outcomes = world.embed(batch, final=final)
        assert {(one.status, one.reason) for one in outcomes} == {(DEFERRED, "paused")}
        assert world.locks() == {}
        assert world.services.locks.acquire([0, 1], "next", 1.0) == [True, True]

    def test_what_needs_no_call_is_done_in_a_pause(self, world: MemoryWorld) -> None:
        world.write("known", full_name="known")
        world.settle()
        world.services.call("warm")
        world.write("copy", full_name="known")
        world.write("gone", full_name="g")
        world.write("new", full_name="n")
        batch = world.claim()
        world.delete("gone")
        world.provider.down = ProviderAuthError("401")
        assert {one.row.key: one.status for one in world.embed(batch)} == {
            "copy": CACHED,
            "gone": GONE,
            "new": DEFERRED,
        }


class TestAtTheEndOfTheProcess:
    def test_rows_are_given_back(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        world.services.embedder.started(batch, "message")
        world.begin_shutdown()
        outcomes = world.embed(batch)
        assert {(one.status, one.reason) for one in outcomes} == {(DEFERRED, "shutdown")}
        assert world.provider.calls == []
        assert world.locks() == {}
        assert world.services.ledger.counts().in_flight == 0


class TestLocks:
    def test_that_would_end_during_the_call_are_renewed_before_it(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.clock.pass_s(LOCK_TTL_S - CALL_S)
        world.provider.during = lambda _: world.clock.pass_s(CALL_S - 1)
        outcomes = world.embed(batch)
        world.clock.pass_s(LOCK_TTL_S - CALL_S - 1)
        assert world.services.locks.acquire([0, 1], "another", 1.0) == [False, False]
        assert world.save(batch, outcomes) == {EMBEDDED: 2}

    def test_that_ended_and_that_nobody_took_are_still_the_run_s(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.clock.pass_s(2 * LOCK_TTL_S)
        assert statuses(world.embed(batch)) == [EMBEDDED] * 2

    def test_that_another_run_took_just_before_the_call_cost_nothing(
        self, world: MemoryWorld
    ) -> None:
        world.write_many(3)
        batch = world.claim()
        load = world.store.repos.load

        def stand_still(keys: list[int], token: str):  # type: ignore[no-untyped-def]
            """For longer than the locks last, after the rows were loaded."""
            states = load(keys, token)
            world.store.repos.load = load  # type: ignore[method-assign]
            world.clock.pass_s(2 * LOCK_TTL_S)
            assert world.store.locks.acquire([1], "another", LOCK_TTL_S) == [True]
            return states

        world.store.repos.load = stand_still  # type: ignore[method-assign]
        assert statuses(world.embed(batch)) == [EMBEDDED, LOST, EMBEDDED]
        assert "owner/name1" not in world.provider.paid


class TestARetiredSpace:
    def test_batch_of_it_is_unlocked_and_costs_nothing(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write_many(3)
        batch = old.claim()
        make_world(embedding_model="another")
        old.clock.pass_s(2.0)  # until it is looked at again
        assert statuses(old.embed(batch)) == [DEFERRED] * 3
        assert old.provider.calls == []
        assert old.locks() == {}

    def test_message_of_the_new_one_is_for_others(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        new = make_world(embedding_model="another")
        new.write_many(3)
        with pytest.raises(AnotherSpace):
            old.services.embedder.embed(new.claim())

    def test_message_of_an_unknown_one_is_left_pending(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        batch = replace(world.claim(), space="other")
        assert statuses(world.embed(batch)) == [DEFERRED]
        assert len(world.outbox()) == 1


def test_copy_of_a_message_is_known(world: MemoryWorld) -> None:
    world.write_many(3)
    batch = world.claim()
    started, ledger = world.services.embedder.started, world.services.ledger
    one, two = (replace(batch, rows=batch.rows[part]) for part in (slice(0, 2), slice(2, 3)))
    found = [started(one, "a"), started(two, "b"), started(one, "a"), started(two, "b")]
    assert [turn is not None for turn in found] == [True, True, False, False]
    assert ledger.counts().queued == 0
    world.carry_out(batch)
    assert started(batch, "a")


def test_a_batch_that_waits_counts_as_queued_until_it_begins_again(world: MemoryWorld) -> None:
    world.write_many(3)
    batch = world.claim()
    embedder, ledger = world.services.embedder, world.services.ledger
    assert embedder.started(batch, "a:0")
    embedder.waits(batch)
    assert ledger.counts().queued == 3
    assert embedder.started(batch, "a:1")
    assert ledger.counts().queued == 0


def test_a_message_that_another_worker_has_by_now_is_not_paid_for(world: MemoryWorld) -> None:
    """This one stood still for so long that it was taken for dead."""
    world.write_many(3)
    batch = world.claim()
    started, embed = world.services.embedder.started, world.services.embedder.embed
    slow = started(batch, "a")
    assert started(batch, "a") is None  # a copy is no reason to give the first one up
    assert started(batch, "a", again=True) is not None
    world.clock.pass_s(TURN_S)
    with pytest.raises(TakenOver):
        embed(batch, turn=slow)
    assert world.provider.calls == []
    world.carry_out(batch)
    world.assert_current()


def test_what_is_paid_for_when_another_worker_takes_over_is_in_the_cache(
    world: MemoryWorld,
) -> None:
    world.write_many(3)
    batch = world.claim()
    services = world.services
    slow = services.embedder.started(batch, "a")

    def stand_still(_: object) -> None:
        world.clock.pass_s(TURN_S)
        services.embedder.started(batch, "a", again=True)

    world.provider.during = stand_still
    with pytest.raises(TakenOver):
        services.embedder.embed(batch, turn=slow)
    world.provider.during = lambda _: None
    assert world.carry_out(batch) == {Status.CACHED: 3}
    assert max(world.provider.paid.values()) == 1


def test_a_turn_that_could_not_be_noted_is_not_looked_for(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_many(3)
    batch = world.claim()

    def away(*_: object, **__: object) -> bool:
        raise RedisUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.services.ledger, "start", away)
        turn = world.services.embedder.started(batch, "a")
    world.clock.pass_s(TURN_S)
    outcomes = world.services.embedder.embed(batch, turn=turn)
    assert {one.status for one in outcomes} == {Status.EMBEDDED}


def test_a_worker_that_goes_on_in_time_keeps_its_message(world: MemoryWorld) -> None:
    world.write_many(3)
    batch = world.claim()
    turn = world.services.embedder.started(batch, "a")
    world.clock.pass_s(TURN_S)
    outcomes = world.services.embedder.embed(batch, turn=turn)
    assert {one.status for one in outcomes} == {Status.EMBEDDED}
