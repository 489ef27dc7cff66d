"""A text that breaks the provider is found and set aside; a provider at fault blames no text."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from embed_star.calling.blame import ALONE_MAX
from embed_star.calling.breaker.breaker import Phase, Thresholds
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import (
    EmbedStarError,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.models import Status
from tests.conftest import MakeWorld
from tests.support.world import World

CRASH = ProviderUnavailable("the connection broke")


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world()
    world.services.breaker = MemoryBreaker(Thresholds(3, 30.0, 2))
    world.provider.during = crash_at("crash")
    return world


def crash_at(word: str, error: EmbedStarError = CRASH) -> Callable[[Sequence[str]], None]:
    def during(texts: Sequence[str]) -> None:
        if any(word in text for text in texts):
            raise error

    return during


def most_calls(rows: int) -> int:
    """The whole, then two calls a halving, then the text alone; a probe after each failure."""
    return 2 + 3 * math.ceil(math.log2(rows)) + 2 * (ALONE_MAX - 1)


class TestOneRow:
    @pytest.mark.parametrize("rows", [1, 2, 3, 7, 10, 50])
    def test_is_set_aside_and_its_neighbours_are_embedded_in_the_same_run(
        self, world: World, rows: int
    ) -> None:
        for at in {0, rows // 2, rows - 1}:
            world.provider.calls.clear()
            for key in range(rows):
                world.write(key, full_name="crash" if key == at else "", topics=[at, key])
            tally = world.carry_out(world.claim())
            assert tally.get(Status.EMBEDDED, 0) == rows - 1
            assert tally[Status.FAILED] == 1
            assert {key: one["reason"] for key, one in world.failures().items()} == {
                str(at): "crashes_provider"
            }
            assert len(world.provider.calls) <= most_calls(rows)
            paid = {text: n for text, n in world.provider.paid.items() if text != PROBE_TEXT}
            assert max(paid.values(), default=1) == 1
        world.assert_current()

    def test_is_not_held_against_the_provider(self, world: World) -> None:
        world.write_many(10)
        world.write(3, full_name="crash")
        world.carry_out(world.claim())
        state = world.services.breaker.state()
        assert (state.phase, state.failures, state.failed_requests) == (Phase.CLOSED, 0, 0)

    def test_is_set_aside_for_a_garbled_answer(self, world: World) -> None:
        world.provider.during = crash_at("crash", ProviderProtocolError("no JSON"))
        world.write_many(5)
        world.write(3, full_name="crash")
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 4, Status.FAILED: 1}
        assert world.failures()["3"]["reason"] == "garbles_answer"
        world.assert_current()

    def test_is_set_aside_though_the_provider_needs_a_moment_after_it(self, world: World) -> None:
        """Down for a call after each crash, as a process that is started again."""
        down = 0

        def during(texts: Sequence[str]) -> None:
            nonlocal down
            down = max(0, down - 1)
            if down or "crash" in str(texts):
                down = down or 2
                raise CRASH

        world.provider.during = during
        world.write_many(5)
        world.write(2, full_name="crash")
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 4, Status.FAILED: 1}
        world.assert_current()

    def test_is_forgotten_when_it_is_answered_after_all(self, world: World) -> None:
        world.write(1, full_name="crash")
        failures = 0

        def during(texts: Sequence[str]) -> None:
            nonlocal failures
            if "crash" in str(texts) and failures < 3:
                failures += 1
                raise CRASH

        world.provider.during = during
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
        assert world.services.redis.keys("*suspect*") == []


def test_crashing_and_refused_rows_of_one_batch_are_all_set_aside(world: World) -> None:
    world.provider.rejects = lambda text: "refused" in text
    world.write_many(40)
    for key, word in {3: "crash", 4: "refused", 17: "crash", 33: "refused", 34: "crash"}.items():
        world.write(key, full_name=f"{word} {key}")
    assert world.carry_out(world.claim()) == {Status.EMBEDDED: 35, Status.FAILED: 5}
    assert {key: one["reason"] for key, one in world.failures().items()} == {
        "3": "crashes_provider",
        "4": "rejected",
        "17": "crashes_provider",
        "33": "rejected",
        "34": "crashes_provider",
    }
    world.assert_current()


class TestNobodyIsBlamed:
    def test_for_an_outage_in_the_middle_of_the_search(self, world: World) -> None:
        world.write_many(8)
        world.write(6, full_name="crash")
        batch = world.claim()
        crash = crash_at("crash")

        def during(texts: Sequence[str]) -> None:
            crash(texts)
            if len(world.provider.calls) > 4:
                raise CRASH

        world.provider.during = during
        tally = world.carry_out(batch)
        assert world.failures() == {}
        # What was answered before is written all the same.
        assert tally == {Status.EMBEDDED: 4, Status.DEFERRED: 4}
        assert world.services.breaker.state().phase is Phase.OPEN
        assert world.locks() == {}

    def test_where_a_pause_is_asked_for_meanwhile(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.errors = [CRASH, ProviderThrottled("429", 2.0)]
        with pytest.raises(ProviderThrottled):
            world.embed(batch)
        assert world.failures() == {}
        assert world.services.breaker.state().failures == 0

    @pytest.mark.parametrize("seed", range(3))
    def test_by_a_provider_that_fails_at_random(self, make_world: MakeWorld, seed: int) -> None:
        """Three calls of ten, probes too."""
        world = make_world(batch_size=10)
        never = Thresholds(10_000, 30.0, 1, failure_rate=1.0, min_requests=10_000)
        world.services.breaker = MemoryBreaker(never)
        chance = random.Random(seed)  # noqa: S311 - a die, repeatable

        def during(_: object) -> None:
            if chance.random() < 0.3:
                raise CRASH

        world.provider.during = during
        world.write_many(400)
        world.settle()
        assert world.failures() == {}
        world.assert_current()
        paid = {text: n for text, n in world.provider.paid.items() if text != PROBE_TEXT}
        assert max(paid.values()) == 1


def test_a_search_that_takes_too_long_goes_on_in_the_next_attempt(make_world: MakeWorld) -> None:
    """Each call until its time-out: what was found out by then is not forgotten."""
    world = make_world()
    now_s = 0.0
    crash = crash_at("crash")

    def during(texts: Sequence[str]) -> None:
        nonlocal now_s
        try:
            crash(texts)
        except EmbedStarError:
            now_s += 30.0
            raise

    world.provider.during = during
    world.services.embedder._bisector = world.services.make_bisector(clock=lambda: now_s)
    world.write_many(4)
    world.write(2, full_name="crash")
    batch = world.claim()
    attempts = 0
    while not world.failures():
        attempts += 1
        began_s = now_s
        tally = world.carry_out(batch)
        assert now_s - began_s <= world.settings.timings.batch_max_s + 30.0
        assert world.provider.paid[world.text_of(full_name="owner/name3")] == 1
        assert attempts < 5
    assert attempts > 1
    assert tally[Status.FAILED] == 1
    world.assert_current()
