"""`RateLimiter`, held against its implementations: this process' own, and the fleet's in Redis.

Providers are simulated over the budget's clock: what they count is exact, and nothing waits.
"""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_star.calling.rate_limit.memory import MemoryRateLimiter
from embed_star.calling.rate_limit.rate_limiter import (
    BURST_S,
    MAX_WAIT_S,
    PAUSE_MAX_S,
    Grant,
    Limits,
    RateLimiter,
    Wait,
    admit,
)
from embed_star.calling.rate_limit.shared import RedisRateLimiter
from embed_star.coordination import client as connection
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.errors import ProviderThrottled, RedisUnavailable

MakeBudget = Callable[[Limits], RateLimiter]

_names = itertools.count()


@dataclass
class Clock:
    """A clock that stands still until told; it begins in the middle of a minute."""

    now: float = 1_800_000_017.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["local", "redis"])
def make(request: pytest.FixtureRequest, clock: Clock) -> Iterator[MakeBudget]:
    if request.param == "local":
        yield lambda limits: MemoryRateLimiter(limits, clock)
    else:
        with connection.connect(request.getfixturevalue("redis_url"), 5.0) as client:
            yield lambda limits: RedisRateLimiter(
                client, "test:", f"b{next(_names)}", limits, clock
            )


def granted(answer: Grant | Wait) -> Grant:
    assert isinstance(answer, Grant), answer
    return answer


def book(budget: RateLimiter, calls: int, tokens: int = 0) -> list[float]:
    """So many calls at once; their delays."""
    return [granted(budget.take(tokens)).delay_s for _ in range(calls)]


def fill(budget: RateLimiter, tokens: int = 0) -> int:
    """Book until the next slot is too far away; how many there were."""
    for calls in itertools.count():
        if isinstance(budget.take(tokens), Wait):
            return calls
    raise AssertionError


class TestTheLine:
    def test_slots_follow_each_other_at_97_percent_of_the_limit(self, make: MakeBudget) -> None:
        delays = book(make(Limits(600)), 50)  # 9.7 a second
        assert delays[0] == delays[1] == 0.0
        assert np.allclose(np.diff(delays[3:]), 60 / 582, atol=1e-5)
        assert delays[-1] == pytest.approx(49 * 60 / 582 - BURST_S, abs=1e-4)

    def test_beyond_the_longest_wait_nothing_is_booked(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        assert fill(budget) == 99  # 10.2 s of 9.7 a second, and the first
        before = budget.state()
        answer = budget.take(0)
        assert isinstance(answer, Wait)
        assert MAX_WAIT_S / 2 < answer.wait_s < MAX_WAIT_S
        assert budget.state() == before

    def test_after_the_wait_there_is_a_slot(self, make: MakeBudget, clock: Clock) -> None:
        budget = make(Limits(600))
        fill(budget)
        answer = budget.take(0)
        assert isinstance(answer, Wait)
        clock.now += answer.wait_s
        assert 0.0 < granted(budget.take(0)).delay_s <= MAX_WAIT_S

    def test_idle_time_is_not_saved_up(self, make: MakeBudget, clock: Clock) -> None:
        budget = make(Limits(600))
        book(budget, 1)
        clock.now += 3600.0
        assert book(budget, 20).count(0.0) == 2

    def test_without_a_limit_nobody_waits(self, make: MakeBudget) -> None:
        assert set(book(make(Limits()), 500, tokens=300_000)) == {0.0}

    def test_one_call_a_minute_has_the_next_slot_after_a_minute(
        self, make: MakeBudget, clock: Clock
    ) -> None:
        budget = make(Limits(1))
        book(budget, 1)
        answer = budget.take(0)
        assert isinstance(answer, Wait)
        clock.now += answer.wait_s
        delay_s = granted(budget.take(0)).delay_s
        assert answer.wait_s + delay_s == pytest.approx(60 / 0.97 - BURST_S, abs=1e-4)

    def test_tokens_dominate_requests(self, make: MakeBudget) -> None:
        delays = book(make(Limits(3000, 60_000)), 5, tokens=1000)
        assert np.allclose(np.diff(delays[1:]), 60 / 58.2, atol=1e-4)

    def test_requests_dominate_tokens(self, make: MakeBudget) -> None:
        delays = book(make(Limits(60, 60_000)), 5, tokens=10)
        assert np.allclose(np.diff(delays[1:]), 60 / 58.2, atol=1e-4)

    def test_a_call_larger_than_the_limit_goes_and_holds_up_the_next(
        self, make: MakeBudget
    ) -> None:
        budget = make(Limits(0, 1000))
        assert granted(budget.take(1500)).delay_s == 0.0
        answer = budget.take(1)
        assert isinstance(answer, Wait)
        assert answer.wait_s == pytest.approx(1.5 * 60 / 0.97 - BURST_S - MAX_WAIT_S / 2, abs=1e-4)

    def test_a_call_of_several_requests_takes_as_many_slots(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        budget.take(0, requests=10)
        assert granted(budget.take(0)).delay_s == pytest.approx(10 * 60 / 582 - BURST_S, abs=1e-4)

    def test_negative_amounts_count_as_none(self, make: MakeBudget) -> None:
        budget = make(Limits(600, 600))
        budget.take(-(10**9), requests=-(10**9))
        assert budget.state().used_share == 0.0
        assert book(budget, 5, tokens=1)[-1] > 0.0

    def test_a_clock_that_was_set_back_costs_two_minutes_at_most(
        self, make: MakeBudget, clock: Clock
    ) -> None:
        budget = make(Limits(60))
        fill(budget)
        budget.pause(60.0)
        clock.now -= 24 * 3600.0
        assert budget.state().paused_s == PAUSE_MAX_S
        clock.now += PAUSE_MAX_S
        assert budget.state().queue_s <= 130.0


class TestAfterTheCall:
    def test_tokens_estimated_too_high_are_given_out_again(self, make: MakeBudget) -> None:
        budget = make(Limits(0, 60_000))
        first = granted(budget.take(5000))
        queue_s = budget.state().queue_s
        budget.settle(first, 1000)
        assert budget.state().queue_s == pytest.approx(queue_s - 4000 / 970, abs=1e-4)

    def test_tokens_estimated_too_low_are_made_up_for(self, make: MakeBudget) -> None:
        budget = make(Limits(0, 60_000))
        first = granted(budget.take(1000))
        queue_s = budget.state().queue_s
        budget.settle(first, 5000)
        assert budget.state().queue_s == pytest.approx(queue_s + 4000 / 970, abs=1e-4)

    def test_a_refund_that_came_late_is_no_burst(self, make: MakeBudget, clock: Clock) -> None:
        budget = make(Limits(0, 60_000))
        first = granted(budget.take(5000))
        clock.now += 30.0
        budget.settle(first, 0)
        assert book(budget, 10, tokens=100)[-1] > 0.5

    def test_a_call_never_made_leaves_no_trace(self, make: MakeBudget) -> None:
        budget = make(Limits(600, 60_000))
        book(budget, 20, tokens=100)
        before = budget.state()
        grant = granted(budget.take(700))
        assert budget.state() != before
        budget.refund(grant)
        assert budget.state() == before

    def test_a_slot_in_the_middle_of_the_line_is_not_given_again(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        grants = [granted(budget.take(0)) for _ in range(30)]
        queue_s = budget.state().queue_s
        budget.refund(grants[10])
        assert budget.state().queue_s == queue_s
        for grant in reversed(grants[20:]):
            budget.refund(grant)
        assert granted(budget.take(0)).at_s == grants[20].at_s


class TestPause:
    def test_nobody_is_let_through_before_its_end(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        budget.pause(7.0)
        assert budget.state().paused_s == pytest.approx(7.0, abs=1e-5)
        delays = book(budget, 10)
        assert min(delays) == pytest.approx(7.0, abs=1e-5)
        assert delays.count(min(delays)) == 2  # and no burst after it

    def test_a_pause_holds_without_limits_too(self, make: MakeBudget, clock: Clock) -> None:
        budget = make(Limits())
        budget.pause(21.0)
        assert isinstance(budget.take(0), Wait)
        assert isinstance(budget.take(0, reserved=True), Wait)
        clock.now += 21.0
        assert book(budget, 3) == [0.0] * 3

    def test_it_grows_and_never_shrinks(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        for seconds, left_s in [(5.0, 5.0), (2.0, 5.0), (9.0, 9.0), (0.0, 9.0), (-1.0, 9.0)]:
            budget.pause(seconds)
            assert budget.state().paused_s == pytest.approx(left_s, abs=1e-5)

    @pytest.mark.parametrize("seconds", [1e9, float("inf")])
    def test_it_is_capped(self, make: MakeBudget, seconds: float) -> None:
        budget = make(Limits(600))
        budget.pause(seconds)
        assert budget.state().paused_s == PAUSE_MAX_S

    def test_what_is_no_number_is_no_pause(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        budget.pause(float("nan"))
        assert budget.state().paused_s == 0.0


class TestReserve:
    def test_a_search_does_not_queue_behind_the_backlog(self, make: MakeBudget) -> None:
        budget = make(Limits(3000, 1_000_000))
        fill(budget, tokens=50)
        delays = [granted(budget.take(20, reserved=True)).delay_s for _ in range(4)]
        assert delays[0] == 0.0
        assert np.allclose(np.diff(delays[1:]), 60 / (0.05 * 2910), atol=1e-4)
        assert isinstance(budget.take(50), Wait)

    def test_the_line_makes_up_for_it(self, make: MakeBudget) -> None:
        budget = make(Limits(3000))
        fill(budget)
        queue_s = budget.state().queue_s
        assert granted(budget.take(0, reserved=True)).from_reserve
        assert budget.state().queue_s == pytest.approx(queue_s + 60 / 2910, abs=1e-5)

    def test_an_idle_line_serves_searches_faster_than_the_reserve(self, make: MakeBudget) -> None:
        budget = make(Limits(3000))
        grants = [granted(budget.take(0, reserved=True)) for _ in range(100)]
        assert grants[-1].delay_s < 2.1

    @pytest.mark.parametrize(
        ("limits", "tokens"),
        [
            (Limits(99), 0),
            (Limits(3000, 1000), 11),
            (Limits(3000, reserve_share=0.0), 0),
        ],
    )
    def test_there_is_none_where_one_call_is_too_much_of_it(
        self, make: MakeBudget, limits: Limits, tokens: int
    ) -> None:
        budget = make(limits)
        fill(budget, tokens)
        grant = granted(budget.take(tokens, reserved=True))  # and yet it is not kept out
        assert not grant.from_reserve
        assert MAX_WAIT_S < grant.delay_s <= 2 * MAX_WAIT_S


class TestState:
    def test_the_used_share_is_that_of_the_tighter_limit(
        self, make: MakeBudget, clock: Clock
    ) -> None:
        budget = make(Limits(600, 10_000))
        assert budget.state().used_share == 0.0
        book(budget, 10, tokens=100)
        assert budget.state().used_share == pytest.approx(0.1)
        clock.now += 60.0
        assert 0.0 < budget.state().used_share < 0.1
        clock.now += 60.0
        assert budget.state().used_share == 0.0


@dataclass
class Provider:
    """Who counts the calls that arrive, strictly: in whole minutes, and in any 60 seconds."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)

    def most_in_a_minute_of_the_clock(self) -> int:
        minutes = np.array([at // 60 for at, _ in self.arrivals])
        return int(np.unique(minutes, return_counts=True)[1].max())

    def most_in_any_60_s(self, what: int | None = None) -> int:
        """Calls, or with `what=1` tokens."""
        arrivals = sorted(self.arrivals)
        times = np.array([at for at, _ in arrivals])
        amounts = np.array([1 if what is None else tokens for _, tokens in arrivals])
        sums = np.concatenate([[0], np.cumsum(amounts)])
        ends = np.searchsorted(times, times + 60.0, side="right")
        return int((sums[ends] - sums[:-1]).max())

    def between(self, begin: float, end: float) -> list[tuple[float, int]]:
        return [one for one in self.arrivals if begin <= one[0] < end]


@dataclass(frozen=True)
class Workers:
    """A fleet that always has work: calls of `call_s`, on ways of up to `way_s`."""

    threads: int
    call_s: float = 0.3
    way_s: float = 0.5
    tokens: int = 0
    actual: Callable[[random.Random], float] = lambda _: 1.0
    """Share of the estimate that the provider counts."""
    never_made: float = 0.0
    """Share of the grants that are refunded."""
    searches_s: float = 0.0
    """Reserved calls a second."""


def simulate(
    budget: RateLimiter, clock: Clock, workers: Workers, seconds: float
) -> tuple[Provider, list[float], list[int]]:
    """What arrives at the provider, how long each search waited, and each thread's calls.

    Threads have numbers from 0, searches from -1 downwards.
    """
    rng = random.Random(7)  # noqa: S311 - a simulation
    provider, waits, served = Provider(), [], [0] * workers.threads
    begun = [clock.now + rng.uniform(0, seconds) for _ in range(int(seconds * workers.searches_s))]
    until = clock.now + seconds
    order = itertools.count()
    events: list[tuple[float, int, int, Grant | None]] = [
        (clock.now, next(order), thread, None) for thread in range(workers.threads)
    ]
    events += [(at, next(order), -n, None) for n, at in enumerate(begun, 1)]
    heapq.heapify(events)
    while events and events[0][0] < until:
        clock.now, _, thread, grant = heapq.heappop(events)
        if grant is not None:
            share = workers.actual(rng)
            budget.settle(grant, round(grant.cost.tokens * share))
        answer = budget.take(workers.tokens if thread >= 0 else 20, reserved=thread < 0)
        if isinstance(answer, Wait):
            heapq.heappush(events, (clock.now + answer.wait_s, next(order), thread, None))
            continue
        if thread >= 0 and rng.random() < workers.never_made:
            budget.refund(answer)
            heapq.heappush(events, (clock.now + 0.1, next(order), thread, None))
            continue
        arrives = answer.at_s + rng.uniform(0, workers.way_s)
        provider.arrivals.append((arrives, answer.cost.tokens))
        if thread < 0:
            waits.append(answer.at_s - begun[-thread - 1])
        else:
            served[thread] += 1
            back = arrives + workers.call_s
            heapq.heappush(events, (back, next(order), thread, answer))
    return provider, waits, served


class TestStrictProviders:
    """No 429, and 95 % of what is allowed: over minutes of a simulated clock."""

    @pytest.mark.parametrize("per_minute", [1, 3, 10, 60, 99, 100, 300, 1000, 3000])
    @pytest.mark.parametrize("threads", [3, 400])
    def test_requests_keep_to_the_limit_in_any_window(
        self, clock: Clock, per_minute: int, threads: int
    ) -> None:
        budget = MemoryRateLimiter(Limits(per_minute), clock)
        # A thread makes a call in half a second or so: 3 of them cannot use up every limit.
        seconds = 330.0 if per_minute >= 10 else 1830.0
        begin = clock.now
        provider, _, served = simulate(budget, clock, Workers(threads), seconds)
        assert provider.most_in_any_60_s() <= per_minute
        assert provider.most_in_a_minute_of_the_clock() <= per_minute
        if threads == 400 or per_minute <= 100:
            used = len(provider.between(begin, begin + seconds - 30))
            assert used >= 0.95 * per_minute * (seconds - 30) / 60
        if threads == 400 and per_minute == 3000:
            assert min(served) > 0  # nobody starves

    @pytest.mark.parametrize("per_minute", [10, 30, 100, 300, 1000, 3000])
    def test_searches_and_abandoned_calls_keep_to_the_limit_too(
        self, clock: Clock, per_minute: int
    ) -> None:
        budget = MemoryRateLimiter(Limits(per_minute), clock)
        searches_s = max(2.0, 0.03 * per_minute) / 60
        workers = Workers(400, never_made=0.05, searches_s=searches_s)
        provider, waits, _ = simulate(budget, clock, workers, 330.0)
        assert provider.most_in_any_60_s() <= per_minute
        assert provider.most_in_a_minute_of_the_clock() <= per_minute
        assert len(waits) > 5
        assert sum(waits) / len(waits) < min(2000 / per_minute, 2 * MAX_WAIT_S)

    def test_redis_keeps_to_the_limit_in_any_window(self, clock: Clock, redis_url: str) -> None:
        with connection.connect(redis_url, 5.0) as client:
            budget = RedisRateLimiter(client, "test:", "strict", Limits(1000), clock)
            begin = clock.now
            provider, _, _ = simulate(budget, clock, Workers(50, searches_s=0.3), 150.0)
        assert provider.most_in_any_60_s() <= 1000
        assert provider.most_in_a_minute_of_the_clock() <= 1000
        assert len(provider.between(begin, begin + 120)) >= 0.95 * 2000

    @pytest.mark.parametrize(
        "actual", [lambda _: 1.0, lambda rng: rng.uniform(0.5, 1.0), lambda rng: rng.uniform(1, 2)]
    )
    def test_tokens_keep_to_the_limit_in_any_window(
        self, clock: Clock, actual: Callable[[random.Random], float]
    ) -> None:
        per_minute = 1_000_000
        budget = MemoryRateLimiter(Limits(3000, per_minute), clock)
        workers = Workers(100, tokens=2000, actual=actual)
        counted: list[tuple[float, int]] = []
        settle = budget.settle

        def count(grant: Grant, tokens: int) -> None:
            counted.append((grant.at_s, tokens))
            settle(grant, tokens)

        budget.settle = count  # type: ignore[method-assign]
        begin = clock.now + 60.0  # by then corrections come in as they go out
        simulate(budget, clock, workers, 400.0)
        provider = Provider([one for one in counted if one[0] >= begin])
        assert provider.most_in_any_60_s(1) <= per_minute
        used = sum(tokens for _, tokens in provider.between(begin, begin + 300))
        assert used >= 0.95 * 5 * per_minute


class TestAdmit:
    def test_it_sleeps_once_until_the_slot(self, make: MakeBudget, clock: Clock) -> None:
        budget = make(Limits(600))
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.now += seconds

        book(budget, 10)
        grant = admit(budget, 0, sleep=sleep)
        assert slept == [grant.delay_s]
        assert clock.now == pytest.approx(grant.at_s, abs=1e-5)
        clock.now += 5.0
        admit(budget, 0, sleep=sleep)
        assert len(slept) == 1

    def test_a_slot_too_far_away_is_refused_with_its_wait(self, make: MakeBudget) -> None:
        budget = make(Limits(600))
        budget.pause(60.0)
        with pytest.raises(ProviderThrottled) as caught:
            admit(budget, 0, sleep=pytest.fail)
        assert caught.value.retry_after_s == pytest.approx(55.0, abs=0.1)

    def test_a_pause_that_began_meanwhile_stops_who_slept(self, make: MakeBudget) -> None:
        budget = make(Limits(600, 60_000))
        book(budget, 10, tokens=10)
        before = budget.state()
        with pytest.raises(ProviderThrottled) as caught:
            admit(budget, 10, sleep=lambda _: budget.pause(30.0))
        assert caught.value.retry_after_s == pytest.approx(30.0, abs=1e-4)
        assert budget.state().used_share == before.used_share


class TestTheFleet:
    def test_a_pause_reaches_every_client_and_every_name_is_apart(
        self, redis_url: str, clock: Clock
    ) -> None:
        limits = Limits(600)
        with connection.connect(redis_url, 5.0) as one, connection.connect(redis_url, 5.0) as two:
            RedisRateLimiter(one, "test:", "a", limits, clock).pause(20.0)
            assert RedisRateLimiter(two, "test:", "a", limits, clock).state().paused_s == 20.0
            assert RedisRateLimiter(two, "test:", "b", limits, clock).state().paused_s == 0.0

    def test_its_key_in_redis_ends_when_idle(self, redis_url: str, clock: Clock) -> None:
        with connection.connect(redis_url, 5.0) as client:
            budget = RedisRateLimiter(client, "test:", "a", Limits(600), clock)
            budget.take(0)
            assert 110_000 < client.pttl("test:budget:a") <= 130_000
            budget.pause(1000.0)
            assert 1_100_000 < client.pttl("test:budget:a") <= 1_120_000

    def test_four_processes_share_one_limit_evenly(self, redis_url: str) -> None:
        """Slots booked in real time, by Redis' clock: evenly spaced, none left out."""
        context = multiprocessing.get_context("spawn")
        slots: Queue[list[float]] = context.Queue()
        barrier = context.Barrier(4)
        processes = [
            context.Process(target=_book_for_a_while, args=(redis_url, barrier, slots))
            for _ in range(4)
        ]
        for process in processes:
            process.start()
        booked = [slots.get(timeout=30) for _ in processes]
        for process in processes:
            process.join(10)
        assert all(booked), "every process gets some"
        times = np.sort(np.concatenate(booked))
        span_s = min(max(one) for one in booked) - times[0]
        used = int((times <= times[0] + span_s).sum())
        assert span_s > RUN_S
        assert used >= 0.95 * PER_MINUTE * span_s / 60
        # n slots in a row take n - 1 intervals, less the burst: no window holds more.
        interval_s = 60 / (0.97 * PER_MINUTE)
        ahead = times - np.arange(len(times)) * interval_s
        earliest = np.maximum.accumulate(ahead)
        assert float((earliest - ahead).max()) <= BURST_S + 1e-3


PER_MINUTE = 3000
RUN_S = 3.0
AHEAD_S = 2.0


def _book_for_a_while(url: str, barrier: Barrier, slots: Queue[list[float]]) -> None:
    found: list[float] = []
    with connection.connect(url, 5.0) as client:
        limits = Limits(PER_MINUTE, 100 * PER_MINUTE)
        budget = RedisRateLimiter(client, "test:", "fleet", limits, max_wait_s=AHEAD_S)
        barrier.wait(30)
        end = time.monotonic() + RUN_S

        def work() -> None:
            while time.monotonic() < end + 0.5:
                answer = budget.take(100)
                if isinstance(answer, Grant):
                    found.append(answer.at_s)
                else:
                    time.sleep(0.02)  # sooner than it says: the machine may be busy

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    slots.put(found)


class TestWithoutRedis:
    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[LocalServers]:
        with LocalServers(tmp_path, ServerOptions(surrealdb=False, memory=True)) as servers:
            yield servers

    @pytest.fixture
    def shared(self, servers: LocalServers, clock: Clock) -> Iterator[RateLimiter]:
        with connection.connect(servers.redis_url, 1.0) as client:
            yield RedisRateLimiter(client, "test:", "a", Limits(600), clock)

    def test_it_says_that_redis_is_away(self, servers: LocalServers, shared: RateLimiter) -> None:
        grant = granted(shared.take(0))
        servers.stop_server("redis", grace_s=0)
        for ask in (
            lambda: shared.take(0),
            lambda: shared.refund(grant),
            lambda: shared.pause(1.0),
            shared.state,
        ):
            with pytest.raises(RedisUnavailable, match="cannot ask for the provider's budget"):
                ask()

    def test_a_call_is_refused_before_it_is_made(
        self, servers: LocalServers, shared: RateLimiter
    ) -> None:
        book(shared, 3)

        def redis_goes(_: float) -> None:
            servers.stop_server("redis", grace_s=0)

        with pytest.raises(RedisUnavailable):
            admit(shared, 0, sleep=redis_goes)
        with pytest.raises(RedisUnavailable):
            admit(shared, 0)


_step = st.one_of(
    st.tuples(
        st.just("take"),
        st.sampled_from([-5, 0, 9, 300, 40_000]),
        st.sampled_from([0, 1, 1, 50, 300]),
        st.booleans(),
    ),
    st.tuples(st.just("settle"), st.integers(0, 50), st.integers(-5, 80_000)),
    st.tuples(st.just("refund"), st.integers(0, 50)),
    st.tuples(st.just("pause"), st.floats(-1.0, 5000.0)),
    st.tuples(st.just("state")),
    st.tuples(st.just("pass"), st.floats(0.0, 70.0)),
    st.tuples(st.just("set"), st.floats(-4000.0, 4000.0)),
)
_limits = st.builds(
    Limits,
    st.sampled_from([0, 1, 50, 600, 3000]),
    st.sampled_from([0, 1000, 999_983, 5_000_000]),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(limits=_limits, steps=st.lists(_step, max_size=40))
def test_redis_and_memory_give_the_same_slots(
    redis_url: str, limits: Limits, steps: Sequence[tuple[object, ...]]
) -> None:
    clock = Clock()
    with connection.connect(redis_url, 5.0) as client:
        local = MemoryRateLimiter(limits, clock)
        shared = RedisRateLimiter(client, "test:", f"same{next(_names)}", limits, clock)
        grants: list[tuple[Grant, Grant]] = []
        for step in steps:
            _same(step, clock, local, shared, grants)
            assert local.state() == shared.state(), step


def _same(
    step: tuple[object, ...],
    clock: Clock,
    local: RateLimiter,
    shared: RateLimiter,
    grants: list[tuple[Grant, Grant]],
) -> None:
    match step:
        case ("pass" | "set", float(seconds)):
            clock.now += seconds
        case ("take", int(tokens), int(requests), bool(reserved)):
            one = local.take(tokens, requests=requests, reserved=reserved)
            two = shared.take(tokens, requests=requests, reserved=reserved)
            if isinstance(one, Grant) and isinstance(two, Grant):
                grants.append((one, two))
            assert one == two
        case ("settle", int(number), int(tokens)) if grants:
            one, two = grants[number % len(grants)]
            local.settle(one, tokens)
            shared.settle(two, tokens)
        case ("refund", int(number)) if grants:
            one, two = grants[number % len(grants)]
            local.refund(one)
            shared.refund(two)
        case ("pause", float(seconds)):
            local.pause(seconds)
            shared.pause(seconds)
