"""Finding the texts to blame: a row at fault stops no neighbour, and costs few calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.calling.text_limit import FORGET_S, LEAST_TEXTS
from embed_star.embed.text import estimate_tokens, text_hash
from embed_star.errors import (
    InputTooLong,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.models import Status
from tests.conftest import DIMENSIONS
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld

EMBEDDED, DEFERRED, FAILED = Status.EMBEDDED, Status.DEFERRED, Status.FAILED


class TestARefusedText:
    def test_leaves_its_neighbours_embedded_in_the_same_run(self, world: MemoryWorld) -> None:
        world.write_many(10)
        world.write(7, full_name="poison")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {EMBEDDED: 9, FAILED: 1}
        assert world.failures()["7"]["reason"] == "rejected"
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    @pytest.mark.parametrize("rows", [1, 2, 3, 5, 10, 16, 33])
    def test_is_found_in_few_calls_wherever_it_stands(self, world: MemoryWorld, rows: int) -> None:
        world.provider.rejects = lambda text: "poison" in text
        for at in range(rows):
            world.provider.calls.clear()
            for key in range(rows):
                world.write(key, full_name="poison" if key == at else "", topics=[at, key])
            world.carry_out(world.claim())
            assert set(world.failures()) == {str(at)}
            # One that came alone is asked for once more, since nobody was answered before.
            most = 2 * math.log2(rows) + 1 if rows > 1 else 2
            assert len(world.provider.asked) <= math.ceil(most)
            probes = len(world.provider.calls) - len(world.provider.asked)
            assert probes <= (2 if rows > 1 else 1)
            assert max(world.provider.paid.values(), default=1) == 1
        world.assert_current()

    def test_of_two_rows_is_blamed_in_both(self, world: MemoryWorld) -> None:
        world.write("a", full_name="poison")
        world.write("b", full_name="poison")
        world.write("c", full_name="fine")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {EMBEDDED: 1, FAILED: 2}
        world.assert_current()

    def test_among_several_is_found_like_the_others(self, world: MemoryWorld) -> None:
        world.write_many(9)
        for key in (0, 4, 8):
            world.write(key, full_name=f"poison {key}")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {EMBEDDED: 6, FAILED: 3}
        assert set(world.failures()) == {"0", "4", "8"}
        world.assert_current()

    def test_that_is_too_long_is_called_so(self, world: MemoryWorld) -> None:
        world.write_many(5)
        world.write(3, full_name="long")

        def during(texts: Sequence[str]) -> None:
            if "long" in texts:
                raise InputTooLong("400")

        world.provider.during = during
        assert world.carry_out(world.claim()) == {EMBEDDED: 4, FAILED: 1}
        assert world.failures()["3"]["reason"] == "too_long"
        world.assert_current()


class TestNoRowIsBlamed:
    def test_for_a_call_that_is_too_large(self, world: MemoryWorld) -> None:
        world.write_many(10)
        world.provider.most_texts = 3
        assert world.carry_out(world.claim()) == {EMBEDDED: 10}
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_for_a_call_of_more_texts_than_the_server_takes(self, world: MemoryWorld) -> None:
        world.provider.most_texts, world.provider.says_too_many = 32, True
        world.write_many(100)
        assert world.carry_out(world.claim()) == {EMBEDDED: 100}
        assert [len(call) for call in world.provider.asked] == [100, 50, 25, 25, 25, 25]
        world.provider.calls.clear()
        for key in range(100):
            world.write(key, full_name=f"another text {key}")
        assert world.carry_out(world.claim()) == {EMBEDDED: 100}
        assert [len(call) for call in world.provider.asked] == [25, 25, 25, 25]
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_for_what_a_refusal_says_of_a_few_texts(self, world: MemoryWorld) -> None:
        """It may quote one of them."""
        world.provider.most_texts, world.provider.says_too_many = 3, True
        world.write_many(20)
        assert world.carry_out(world.claim()) == {EMBEDDED: 20}
        assert world.services.gateway.most_texts == LEAST_TEXTS
        world.clock.pass_s(FORGET_S)
        assert world.services.gateway.most_texts == math.inf
        world.assert_current()

    def test_by_a_provider_that_refuses_our_own_text_as_well(self, world: MemoryWorld) -> None:
        """It is out of credit, for one."""
        world.write_many(5)
        world.provider.rejects = lambda _: True
        assert world.carry_out(world.claim()) == {DEFERRED: 5}
        assert world.failures() == {}
        assert len(world.outbox()) == 5

    def test_for_vectors_of_wrong_dimensions(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.dimensions = DIMENSIONS + 1
        assert world.carry_out(batch) == {DEFERRED: 2}
        assert (world.vectors(), world.failures()) == ({}, {})
        assert len(world.outbox()) == 2

    def test_for_one_outage(self, world: MemoryWorld) -> None:
        world.write_many(4)
        batch = world.claim()
        world.provider.errors = [ProviderUnavailable("503")]
        assert world.carry_out(batch) == {EMBEDDED: 4}
        assert world.failures() == {}


class TestATextThatTheProviderFailsAt:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ProviderUnavailable("no answer"), "crashes_provider"),
            (ProviderProtocolError("HTML"), "garbles_answer"),
        ],
    )
    def test_is_blamed_alone_when_others_are_answered(
        self, world: MemoryWorld, error: Exception, reason: str
    ) -> None:
        world.write_many(6)
        world.write(2, full_name="crash")

        def crash(texts: Sequence[str]) -> None:
            if "crash" in texts:
                raise error

        world.provider.during = crash
        assert world.carry_out(world.claim()) == {EMBEDDED: 5, FAILED: 1}
        assert world.failures()["2"]["reason"] == reason
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_is_known_to_the_next_try(self, make_world: MakeMemoryWorld) -> None:
        """It is asked alone from then on, and stops no neighbour a second time."""
        world = make_world()
        world.write_many(4)
        world.write(2, full_name="crash")
        world.backends.suspects.add(text_hash("crash"))
        world.carry_out(world.claim())
        assert [len(call) for call in world.provider.asked] == [3, 1]


class TestABadVector:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [(math.nan, "not_finite"), (math.inf, "not_finite"), (0.0, "constant")],
    )
    def test_sets_that_row_alone_aside(self, world: MemoryWorld, value: float, reason: str) -> None:
        world.write_many(4)
        world.write(2, full_name="bad")
        world.provider.bad = {"bad": value}
        assert world.carry_out(world.claim()) == {EMBEDDED: 3, FAILED: 1}
        assert set(world.vectors()) == {"0", "1", "3"}
        assert world.failures()["2"]["reason"] == reason
        assert len(world.provider.asked) == 1
        assert world.provider.calls[1:] == [(PROBE_TEXT,)]
        world.assert_current()

    def test_is_not_cached(self, world: MemoryWorld) -> None:
        world.write(1, full_name="bad")
        world.provider.bad = {"bad": math.nan}
        world.settle()
        world.provider.bad = {}
        world.write(2, full_name="bad")
        assert world.carry_out(world.claim()) == {EMBEDDED: 1}


class TestABusyProvider:
    def test_is_waited_for_with_the_whole_batch(self, world: MemoryWorld) -> None:
        world.write_many(4)
        batch = world.claim()
        world.provider.errors = [ProviderThrottled("429", 1.0, answered=True)]
        with pytest.raises(ProviderThrottled):
            world.embed(batch)
        world.clock.pass_s(2.0)
        assert world.carry_out(batch) == {EMBEDDED: 4}
        assert world.failures() == {}

    def test_that_throttles_one_text_time_after_time_gets_the_others_asked_apart(
        self, world: MemoryWorld
    ) -> None:
        world.write_many(4)
        world.write(2, full_name="heavy")
        batch = world.claim()

        def throttle(texts: Sequence[str]) -> None:
            if "heavy" in texts:
                raise ProviderThrottled("429", 1.0, answered=True)

        world.provider.during = throttle
        for _ in range(2):
            with pytest.raises(ProviderThrottled):
                world.embed(batch)
            world.clock.pass_s(2.0)
        outcomes = world.embed(batch)
        assert [one.status for one in outcomes] == [EMBEDDED, EMBEDDED, DEFERRED, EMBEDDED]
        assert outcomes[2].reason == "throttled"


class TestTheSizeOfACall:
    def test_is_bounded_in_tokens_as_the_text_is_not_as_it_was_estimated(
        self, make_world: MakeMemoryWorld
    ) -> None:
        """The database counts characters, and those of Chinese are three bytes each."""
        world = make_world(batch_max_tokens=1000)
        for key in range(9):
            world.write(key, full_name=str(key) + "\u8a9e" * 300)
        world.settle()
        assert all(sum(map(estimate_tokens, call)) <= 1000 for call in world.provider.calls)
        assert len(world.provider.calls) >= 3
        world.assert_current()

    def test_is_one_text_where_the_provider_answers_one_vector_for_many(
        self, world: MemoryWorld
    ) -> None:
        world.write_many(3)

        def one_only(texts: Sequence[str]) -> None:
            if len(texts) > 1:
                raise ProviderProtocolError("one vector for many texts", vectors=1)

        world.provider.during = one_only
        assert world.carry_out(world.claim()) == {EMBEDDED: 3}
        world.write(9, full_name="later")
        world.write(10, full_name="later too")
        world.provider.calls.clear()
        world.settle()
        assert sorted(world.provider.calls) == [("later",), ("later too",)]
        world.assert_current()


def test_a_batch_that_takes_too_long_goes_on_later(make_world: MakeMemoryWorld) -> None:
    world = make_world(batch_max_s=100.0)
    world.write_many(4)
    batch = world.claim()
    world.provider.most_texts = 2
    world.provider.during = lambda _: world.clock.pass_s(40.0)
    outcomes = world.embed(batch)
    assert {one.status for one in outcomes} == {EMBEDDED, DEFERRED}
    assert world.failures() == {}
    world.provider.during = lambda _: None
    assert world.carry_out(batch) == {Status.CACHED: 2, EMBEDDED: 2}
