"""How many calls at once: fixed, or as many as go well with a provider in simulated time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import mean

import pytest

from embed_star.calling.call_outcomes import FAULTS, OK, THROTTLED, UNAVAILABLE
from embed_star.calling.concurrency import CEILING_S, ROUND_CALLS, Concurrency
from tests.support.clock import Clock
from tests.support.simulated_calls import CALL_S, SimulatedCalls

FIRST, MOST = 3, 16


class Fleet(SimulatedCalls):
    """Processes that adapt, and what their limits were."""

    def __init__(self, processes: int = 1) -> None:
        clock = Clock()
        made = [Concurrency(FIRST, most=MOST, clock=clock) for _ in range(processes)]
        super().__init__(clock, made)
        self.limits: list[int] = []

    @property
    def limit(self) -> int:
        return sum(process.limit for process in self.processes)

    def watched(self, seconds: float) -> list[int]:
        """The limits of all processes together, after each call of the next `seconds`."""
        seen: list[int] = []
        self.run(seconds, lambda: seen.append(self.limit))
        return seen


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_it_rises_to_the_most_within_seconds_while_latency_is_steady(fleet: Fleet) -> None:
    fleet.run(3.0)
    assert fleet.limit == MOST


def test_it_settles_below_what_gets_429_and_seldom_tries_again(fleet: Fleet) -> None:
    fleet.refuses_from = 6
    fleet.run(CEILING_S / 2)
    assert fleet.limit == 5
    # A second of pause, a few rounds with fewer calls: nine tenths of what the provider takes.
    outcomes = fleet.run(4 * CEILING_S)
    assert outcomes[THROTTLED] <= 0.01 * outcomes[OK]
    assert outcomes[OK] >= 0.9 * 5 * 4 * CEILING_S / CALL_S


def test_it_follows_a_provider_that_takes_fewer_and_then_more(fleet: Fleet) -> None:
    fleet.run(2.0)
    fleet.refuses_from = 4
    fleet.run(CEILING_S / 2)
    assert fleet.limit == 3
    fleet.refuses_from = 12
    fleet.run(CEILING_S + 20.0)
    assert fleet.limit == 11


@pytest.mark.parametrize("serves", [2, 5, 10])
def test_it_uses_a_provider_whose_latency_rises_with_the_calls(fleet: Fleet, serves: int) -> None:
    fleet.serves = serves
    fleet.run(10.0)
    limits = fleet.watched(120.0)
    assert serves * 0.8 <= mean(limits) <= serves * 2.5 + 1
    assert fleet.outcomes[OK] >= 0.9 * serves * 120.0 / CALL_S


def test_a_provider_that_is_slower_for_everybody_gets_as_many_calls_again(fleet: Fleet) -> None:
    fleet.run(5.0)
    fleet.call_s = 5 * CALL_S
    limits = fleet.watched(60.0)
    assert min(limits) == 1
    fleet.run(300.0)
    assert fleet.limit == MOST


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5])
def test_latencies_that_vary_cost_few_calls(fleet: Fleet, sigma: float) -> None:
    fleet.sigma = sigma
    fleet.run(10.0)
    assert mean(fleet.watched(120.0)) >= 0.8 * MOST


def test_a_provider_that_was_down_gets_as_many_calls_again_soon(fleet: Fleet) -> None:
    fleet.run(5.0)
    fleet.is_up = False
    fleet.run(1.0)
    assert fleet.limit == 1
    fleet.is_up = True
    fleet.run(20.0)
    assert fleet.limit == MOST


def test_the_processes_of_a_fleet_share_what_the_provider_takes() -> None:
    fleet = Fleet(4)
    fleet.refuses_from = 21
    fleet.run(CEILING_S)
    outcomes = fleet.run(3 * CEILING_S)
    assert outcomes[OK] >= 0.75 * 20 * 3 * CEILING_S / CALL_S
    assert outcomes[THROTTLED] <= 0.01 * outcomes[OK]
    assert min(process.limit for process in fleet.processes) >= 2


@pytest.mark.parametrize("outcome", [OK, *FAULTS])
def test_a_fixed_number_stays(outcome: str) -> None:
    told: list[int] = []
    fixed = Concurrency(3, most=3, on_change=told.append, clock=Clock())
    for seconds in (0.1, *[9.0] * 5 * ROUND_CALLS):
        assert [fixed.acquire(0) for _ in range(4)] == [True, True, True, False]
        fixed.end(fixed.begin(), outcome, 10, seconds)
        for _ in range(3):
            fixed.release()
    assert (fixed.limit, told) == (3, [])


class TestOneProcess:
    @pytest.fixture
    def told(self) -> list[int]:
        return []

    @pytest.fixture
    def places(self, told: list[int]) -> Concurrency:
        return Concurrency(8, most=MOST, on_change=told.append, clock=Clock())

    def test_calls_that_fail_together_are_one_sign(
        self, places: Concurrency, told: list[int]
    ) -> None:
        assert all(places.acquire(0) for _ in range(8))
        calls = [places.begin() for _ in range(8)]
        for call in calls:
            places.end(call, THROTTLED, 100, 0.01)
        assert (places.limit, told) == (4, [4])

    def test_a_call_that_has_places_beside_it_is_no_sign(self, places: Concurrency) -> None:
        assert places.acquire(0)
        for outcome in (THROTTLED, UNAVAILABLE, *[OK] * 5 * ROUND_CALLS):
            places.end(places.begin(), outcome, 100, 0.3)
        assert places.limit == 8

    def test_small_calls_are_not_compared_with_large_ones(self, places: Concurrency) -> None:
        assert all(places.acquire(0) for _ in range(8))

        def a_round(texts: int, seconds: float) -> int:
            for _ in range(max(ROUND_CALLS, places.limit)):
                while places.acquire(0):
                    pass
                places.end(places.begin(), OK, texts, seconds)
            return places.limit

        assert a_round(1, 0.02) == MOST
        assert a_round(100, 0.4) == MOST
        assert a_round(1, 0.02) == MOST
        assert a_round(100, 0.9) == MOST // 2

    @pytest.mark.parametrize("free", ["release", "rise"])
    def test_who_waits_gets_the_next_place(self, places: Concurrency, free: str) -> None:
        assert all(places.acquire(0) for _ in range(8))
        got: list[bool] = []
        waits = threading.Thread(target=lambda: got.append(places.acquire(60.0)))
        waits.start()
        by: dict[str, Callable[[], None]] = {
            "release": places.release,
            "rise": lambda: [
                places.end(places.begin(), OK, 100, 0.3) for _ in range(ROUND_CALLS)
            ].clear(),
        }
        by[free]()
        waits.join(60.0)
        assert got == [True]
