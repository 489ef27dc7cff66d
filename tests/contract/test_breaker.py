"""`Breaker`, held against each implementation; the two state machines against each other."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from embed_star.calling.breaker import memory as local_breaker
from embed_star.calling.breaker.breaker import (
    DEFAULTS,
    PROBE_POLL_S,
    Admission,
    Breaker,
    NeverOpen,
    Phase,
    State,
    Thresholds,
)
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.breaker.shared import RedisBreaker
from embed_star.coordination import client as connection
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.errors import RedisUnavailable
from embed_star.providers.catalogue import PROVIDERS
from tests.support.servers import PROMPT_S, eventually

THRESHOLDS = Thresholds(
    failures=3,
    open_s=30.0,
    successes_to_close=2,
    failure_rate=0.5,
    min_requests=10,
    window_s=60.0,
    probe_s=20.0,
)
Make = Callable[[Thresholds], Breaker]


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as connected:
        yield connected


@pytest.fixture(params=["local", "redis"])
def make(request: pytest.FixtureRequest, clock: Clock) -> Make:
    """Each implementation in turn, on the test's clock."""
    if request.param == "local":
        return lambda thresholds: MemoryBreaker(thresholds, clock)
    client = request.getfixturevalue("client")
    return lambda thresholds: RedisBreaker(client, "test:", "provider:model", thresholds, clock)


@pytest.fixture
def breaker(make: Make) -> Breaker:
    return make(THRESHOLDS)


def succeed(breaker: Breaker, times: int = 1) -> list[bool]:
    return [breaker.succeeded(admitted(breaker)) for _ in range(times)]


def fail(breaker: Breaker, times: int = 1) -> list[bool]:
    return [breaker.failed(admitted(breaker)) for _ in range(times)]


def admitted(breaker: Breaker, *, probe: bool | None = None) -> Admission:
    admission = breaker.admit()
    assert admission.allowed
    assert admission.retry_in_s == 0.0
    if probe is not None:
        assert admission.probe == probe
    return admission


def refused_s(breaker: Breaker) -> float:
    """How long to wait, of a call that is refused."""
    admission = breaker.admit()
    assert not admission.allowed
    assert admission.retry_in_s == breaker.state().retry_in_s > 0
    return admission.retry_in_s


def half_open(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, THRESHOLDS.failures)
    clock.pass_s(THRESHOLDS.open_s)
    assert breaker.state().phase is Phase.HALF_OPEN


class TestClosed:
    def test_lets_all_through(self, breaker: Breaker) -> None:
        assert breaker.state() == State(Phase.CLOSED)
        for _ in range(5):
            admitted(breaker, probe=False)
        assert breaker.state() == State(Phase.CLOSED)

    def test_opens_with_failures_in_a_row(self, breaker: Breaker) -> None:
        assert fail(breaker, 3) == [False, False, True]
        assert refused_s(breaker) == THRESHOLDS.open_s

    def test_a_success_begins_the_row_again(self, breaker: Breaker) -> None:
        for _ in range(2):
            fail(breaker, 2)
            assert succeed(breaker) == [False]
        assert fail(breaker, 3) == [False, False, True]

    def test_a_row_has_no_end_in_time(self, breaker: Breaker, clock: Clock) -> None:
        fail(breaker, 2)
        clock.pass_s(10 * THRESHOLDS.window_s)
        assert breaker.state() == State(Phase.CLOSED, failures=2)
        assert fail(breaker) == [True]

    def test_calls_that_are_abandoned_count_for_nothing(self, breaker: Breaker) -> None:
        fail(breaker, 2)
        for _ in range(20):
            breaker.abandon(admitted(breaker))
        assert breaker.state() == State(Phase.CLOSED, failures=2, requests=2, failed_requests=2)
        assert fail(breaker) == [True]

    def test_opens_at_once_when_it_is_told_so(self, breaker: Breaker) -> None:
        assert breaker.failed(admitted(breaker), for_certain=True)
        assert refused_s(breaker) == THRESHOLDS.open_s

    def test_what_ends_after_it_opened_opens_nothing_again(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        late = [admitted(breaker) for _ in range(3)]
        fail(breaker, 3)
        clock.pass_s(10.0)
        assert [breaker.failed(one, for_certain=True) for one in late] == [False] * 3
        assert refused_s(breaker) == 20.0


class TestTheRate:
    """With a success between, no row is ever long enough."""

    def test_opens_from_a_number_of_requests_on(self, breaker: Breaker) -> None:
        for _ in range(4):
            fail(breaker)
            succeed(breaker)
        assert fail(breaker) == [False]  # 5 of 9
        succeed(breaker)  # 5 of 10: only a failure opens
        assert breaker.state().phase is Phase.CLOSED
        assert fail(breaker) == [True]

    def test_a_smaller_share_of_failures_is_borne(self, breaker: Breaker) -> None:
        for _ in range(20):
            assert succeed(breaker, 2) + fail(breaker) == [False] * 3
        assert breaker.state() == State(Phase.CLOSED, failures=1, requests=60, failed_requests=20)

    def test_looks_back_on_half_a_window_at_least(self, breaker: Breaker, clock: Clock) -> None:
        half_s = THRESHOLDS.window_s / 2
        clock.now_s -= clock.now_s % half_s  # a half begins
        succeed(breaker, 9)
        clock.pass_s(2 * half_s - 0.001)
        assert breaker.state().requests == 9
        clock.pass_s(0.001)
        assert breaker.state().requests == 0
        # At a half's very end: seen for the time of one half.
        clock.pass_s(half_s - 0.001)
        succeed(breaker, 9)
        clock.pass_s(half_s)
        assert breaker.state().requests == 9
        clock.pass_s(0.001)
        assert breaker.state().requests == 0

    def test_old_successes_hide_no_outage(self, make: Make, clock: Clock) -> None:
        breaker = make(replace(THRESHOLDS, failures=1000))
        succeed(breaker, 100)
        clock.pass_s(THRESHOLDS.window_s)
        assert fail(breaker, 10) == [False] * 9 + [True]

    def test_is_counted_anew_after_closing(self, breaker: Breaker, clock: Clock) -> None:
        succeed(breaker, 7)
        half_open(breaker, clock)
        assert succeed(breaker, 2) == [False, True]
        assert breaker.state() == State(Phase.CLOSED)


class TestOpen:
    def test_refuses_until_its_time_is_over(self, breaker: Breaker, clock: Clock) -> None:
        fail(breaker, 3)
        assert refused_s(breaker) == 30.0
        clock.pass_s(29.0)
        assert refused_s(breaker) == 1.0
        clock.pass_s(0.999)
        assert refused_s(breaker) == 0.001
        assert breaker.state() == State(Phase.OPEN, 0.001, 3, 3, 3)
        clock.pass_s(0.001)
        assert breaker.state() == State(Phase.HALF_OPEN, 0.0, 3, 3, 3)
        admitted(breaker, probe=True)

    def test_a_refused_call_has_nothing_to_report(self, breaker: Breaker, clock: Clock) -> None:
        fail(breaker, 3)
        refused = breaker.admit()
        clock.pass_s(10.0)
        assert not breaker.succeeded(refused)
        assert not breaker.failed(refused, for_certain=True)
        breaker.abandon(refused)
        assert refused_s(breaker) == 20.0

    def test_a_clock_that_is_set_back_makes_no_pause_longer(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        fail(breaker, 3)
        clock.pass_s(-3600.0)
        assert refused_s(breaker) == 30.0
        clock.pass_s(30.0)
        admitted(breaker, probe=True)
        clock.pass_s(-3600.0)
        assert refused_s(breaker) == 30.0
        clock.pass_s(30.0)
        admitted(breaker, probe=True)


class TestHalfOpen:
    @pytest.fixture(autouse=True)
    def _half_open(self, breaker: Breaker, clock: Clock) -> None:
        half_open(breaker, clock)

    def test_lets_one_probe_through_at_a_time(self, breaker: Breaker) -> None:
        probe = admitted(breaker, probe=True)
        assert refused_s(breaker) == PROBE_POLL_S
        breaker.succeeded(probe)
        admitted(breaker, probe=True)
        assert refused_s(breaker) == PROBE_POLL_S

    def test_closes_with_successful_probes_in_a_row(self, breaker: Breaker) -> None:
        assert succeed(breaker) == [False]
        assert breaker.state().phase is Phase.HALF_OPEN
        assert breaker.state().probes_passed == 1
        assert succeed(breaker) == [True]
        admitted(breaker, probe=False)
        assert fail(breaker, 3) == [False, False, True]

    def test_a_probe_that_fails_opens_it_again(self, breaker: Breaker, clock: Clock) -> None:
        succeed(breaker)
        assert fail(breaker) == [True]
        assert refused_s(breaker) == 30.0
        clock.pass_s(30.0)
        assert succeed(breaker, 2) == [False, True]  # the one before is not counted

    def test_a_probe_that_is_abandoned_makes_room(self, breaker: Breaker) -> None:
        succeed(breaker)
        for _ in range(10):
            breaker.abandon(admitted(breaker, probe=True))
        assert breaker.state().probes_passed == 1
        assert succeed(breaker) == [True]

    def test_a_lost_probe_makes_room_when_its_lease_ends(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        lost = admitted(breaker, probe=True)
        clock.pass_s(19.5)
        assert refused_s(breaker) == 0.5
        clock.pass_s(0.5)
        second = admitted(breaker, probe=True)
        # The first was given up: whatever it says now is not heard.
        breaker.abandon(lost)
        assert not breaker.failed(lost, for_certain=True)
        assert not breaker.succeeded(lost)
        assert breaker.state().probes_passed == 0
        assert refused_s(breaker) == PROBE_POLL_S
        breaker.succeeded(second)
        assert breaker.state().probes_passed == 1

    def test_a_probe_that_is_late_is_heard_while_no_other_began(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        probe = admitted(breaker, probe=True)
        clock.pass_s(100.0)
        assert breaker.failed(probe)
        assert refused_s(breaker) == 30.0

    def test_a_probe_counts_once(self, breaker: Breaker) -> None:
        probe = admitted(breaker, probe=True)
        for _ in range(5):
            assert not breaker.succeeded(probe)
        assert breaker.state().probes_passed == 1
        assert not breaker.failed(probe)
        assert breaker.state().phase is Phase.HALF_OPEN

    def test_an_old_probe_counts_for_nothing_once_closed(self, breaker: Breaker) -> None:
        probe = admitted(breaker, probe=True)
        breaker.succeeded(probe)
        succeed(breaker)
        assert breaker.state() == State(Phase.CLOSED)
        assert not breaker.failed(probe, for_certain=True)
        assert breaker.state() == State(Phase.CLOSED)


class TestLateResults:
    def test_of_the_phase_before_do_not_close_it(self, breaker: Breaker, clock: Clock) -> None:
        """Of the first closed phase, of which nothing is written down, and of a later one."""
        for _ in range(2):
            late = [admitted(breaker, probe=False) for _ in range(12)]
            fail(breaker, 3)
            assert not any(map(breaker.succeeded, late[:3]))
            clock.pass_s(30.0)
            assert not any(map(breaker.succeeded, late[3:6]))
            assert breaker.state() == State(Phase.HALF_OPEN, 0.0, 3, 3, 3)
            probe = admitted(breaker, probe=True)
            assert not any(map(breaker.succeeded, late[6:9]))
            assert not any(map(breaker.failed, late[9:11]))
            breaker.abandon(late[11])
            assert refused_s(breaker) == PROBE_POLL_S  # the probe has its place still
            breaker.succeeded(probe)
            assert succeed(breaker) == [True]

    def test_of_before_an_outage_count_for_nothing_after_it(
        self, breaker: Breaker, clock: Clock
    ) -> None:
        late = [admitted(breaker) for _ in range(20)]
        half_open(breaker, clock)
        succeed(breaker, 2)
        assert not any(breaker.failed(one, for_certain=True) for one in late[:10])
        assert not any(map(breaker.succeeded, late[10:]))
        assert breaker.state() == State(Phase.CLOSED)


class TestNeverOpen:
    def test_stays_closed_whatever_fails(self) -> None:
        breaker = NeverOpen()
        for _ in range(100):
            assert not breaker.failed(admitted(breaker, probe=False), for_certain=True)
        breaker.succeeded(admitted(breaker))
        breaker.abandon(admitted(breaker))
        assert breaker.state() == State(Phase.CLOSED)


def test_defaults_are_the_design_s() -> None:
    numbers = {
        name: (one.failures, one.open_s, one.successes_to_close) for name, one in DEFAULTS.items()
    }
    assert numbers == {"openai": (5, 120, 3), "together": (10, 60, 5), "ollama": (3, 30, 2)}
    assert {(one.failure_rate, one.min_requests) for one in DEFAULTS.values()} == {(0.5, 20)}
    assert set(DEFAULTS) == set(PROVIDERS) - {"local"}


class TestRaces:
    SWIFT = replace(THRESHOLDS, open_s=0.001, probe_s=3600.0, successes_to_close=5)

    @pytest.fixture(params=["local", "redis"])
    def breaker(self, request: pytest.FixtureRequest) -> Breaker:
        """On the real time: these are about threads."""
        if request.param == "local":
            return MemoryBreaker(self.SWIFT)
        client = request.getfixturevalue("client")
        return RedisBreaker(client, "test:", "provider:model", self.SWIFT)

    @pytest.fixture(autouse=True)
    def _take_turns(self) -> Iterator[None]:
        """Threads that are started take turns at every line of `MemoryBreaker`."""

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if event == "call" and frame.f_code.co_filename != local_breaker.__file__:
                return None
            time.sleep(0)
            return trace

        threading.settrace(trace)
        yield
        threading.settrace(None)

    def test_one_of_fifty_threads_probes(self, breaker: Breaker) -> None:
        fail(breaker, 3)
        for round_ in range(5):
            eventually(lambda: breaker.state().retry_in_s == 0, "a probe may be made")
            start = threading.Barrier(50)

            def ask(_: int, start: threading.Barrier = start) -> Admission:
                start.wait()
                return breaker.admit()

            with ThreadPoolExecutor(50) as threads:
                answers = list(threads.map(ask, range(50)))
            (probe,) = [one for one in answers if one.allowed]
            assert probe.probe
            assert breaker.succeeded(probe) == (round_ == 4)

    def test_no_result_is_lost(self, breaker: Breaker) -> None:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(lambda _: succeed(breaker), range(200)))
            list(threads.map(lambda _: fail(breaker), range(2)))
        state = breaker.state()
        assert (state.requests, state.failed_requests, state.failures) == (202, 2, 2)


STARTED_S = 60.0
"""Until both processes have imported all of this, on a busy machine."""


def _ask_from_afar(url: str, thresholds: Thresholds, start: Any, answers: Any) -> None:
    """Another process: ask with 25 threads at once, in each round."""
    with connection.connect(url, 5.0) as client, ThreadPoolExecutor(25) as threads:
        breaker = RedisBreaker(client, "test:", "provider:model", thresholds)
        for _ in range(5):
            start.wait(STARTED_S)
            answers.put(list(threads.map(lambda _: breaker.admit(), range(25))))


def test_one_of_two_processes_probes(redis_url: str, client: redis.Redis) -> None:
    thresholds = TestRaces.SWIFT
    breaker = RedisBreaker(client, "test:", "provider:model", thresholds)
    spawning = multiprocessing.get_context("spawn")  # a fork would take the threads' locks along
    start, answers = spawning.Barrier(3), spawning.Queue()
    processes = [
        spawning.Process(target=_ask_from_afar, args=(redis_url, thresholds, start, answers))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    fail(breaker, 3)
    for _ in range(5):
        eventually(lambda: breaker.state().retry_in_s == 0, "a probe may be made")
        start.wait(STARTED_S)
        both = answers.get(timeout=PROMPT_S) + answers.get(timeout=PROMPT_S)
        (probe,) = [one for one in both if one.allowed]
        breaker.succeeded(probe)
    assert breaker.state() == State(Phase.CLOSED)
    for process in processes:
        process.join(PROMPT_S)
        assert process.exitcode == 0


class TestInRedis:
    def test_goes_by_redis_own_time(self, client: redis.Redis) -> None:
        thresholds = replace(THRESHOLDS, open_s=0.2, probe_s=0.2)
        breaker = RedisBreaker(client, "test:", "provider:model", thresholds)
        fail(breaker, 3)
        assert 0 < refused_s_now(breaker) <= 0.2
        eventually(lambda: breaker.admit().probe, "the pause ends")
        assert 0 < refused_s_now(breaker) <= 0.2
        eventually(lambda: breaker.admit().probe, "the lost probe's lease ends")

    def test_is_one_key_that_ends_when_idle(self, client: redis.Redis) -> None:
        breaker = RedisBreaker(client, "test:", "openai:a/b {c}", THRESHOLDS)
        breaker.abandon(admitted(breaker))
        breaker.state()
        assert client.keys() == []  # nothing to remember yet
        fail(breaker, 3)
        assert client.keys("test:breaker:*") == [b"test:breaker:openai:a/b {c}"]
        assert 3600 < client.ttl("test:breaker:openai:a/b {c}") < 4000

    def test_what_is_refused_or_merely_asked_writes_nothing(
        self, client: redis.Redis, clock: Clock
    ) -> None:
        breaker = RedisBreaker(client, "test:", "provider:model", THRESHOLDS, clock)
        fail(breaker, 3)
        client.persist("test:breaker:provider:model")
        for _ in range(3):
            breaker.admit()
            breaker.state()
        assert client.ttl("test:breaker:provider:model") == -1

    def test_each_name_has_its_own(self, client: redis.Redis) -> None:
        one, other = (RedisBreaker(client, "test:", name, THRESHOLDS) for name in ("a", "b"))
        fail(one, 3)
        admitted(other, probe=False)

    def test_is_shared(self, client: redis.Redis) -> None:
        one, other = (RedisBreaker(client, "test:", "a", THRESHOLDS) for _ in range(2))
        assert [*fail(one, 2), *fail(other)] == [False, False, True]
        assert not one.admit().allowed

    def test_is_closed_when_redis_was_wiped(self, client: redis.Redis, clock: Clock) -> None:
        breaker = RedisBreaker(client, "test:", "a", THRESHOLDS, clock)
        half_open(breaker, clock)
        before = admitted(breaker, probe=True)
        client.flushall()
        assert breaker.state() == State(Phase.CLOSED)
        # The probe of before is none of the next outage's.
        fail(breaker, 3)
        clock.pass_s(30.0)
        probe = admitted(breaker, probe=True)
        assert not breaker.failed(before)
        assert breaker.succeeded(before) is False
        assert breaker.state().probes_passed == 0
        breaker.succeeded(probe)
        assert breaker.state().probes_passed == 1


def refused_s_now(breaker: Breaker) -> float:
    admission = breaker.admit()
    assert not admission.allowed
    return admission.retry_in_s


class TestWithoutRedis:
    @pytest.fixture
    def servers(self, tmp_path: Path) -> Iterator[LocalServers]:
        """A Redis of the test's own, that it may stop."""
        with LocalServers(tmp_path, ServerOptions(surrealdb=False, memory=True)) as servers:
            yield servers

    @pytest.fixture
    def shared(self, servers: LocalServers, clock: Clock) -> Iterator[Breaker]:
        with connection.connect(servers.redis_url, 1.0) as client:
            yield RedisBreaker(client, "test:", "a", THRESHOLDS, clock)

    def test_the_shared_one_says_that_redis_is_away(
        self, servers: LocalServers, shared: Breaker, clock: Clock
    ) -> None:
        half_open(shared, clock)
        probe = admitted(shared, probe=True)
        servers.stop_server("redis", grace_s=0)
        for ask in (
            shared.admit,
            shared.state,
            lambda: shared.succeeded(probe),
            lambda: shared.failed(probe),
            lambda: shared.abandon(probe),
        ):
            with pytest.raises(RedisUnavailable, match="cannot ask the circuit breaker"):
                ask()

    def test_one_that_has_forgotten_counts_anew(
        self, servers: LocalServers, shared: Breaker
    ) -> None:
        fail(shared, 2)
        under_way = admitted(shared)
        servers.stop_server("redis", grace_s=0)
        with pytest.raises(RedisUnavailable):
            shared.admit()
        servers.start_server("redis")
        assert not shared.failed(under_way)
        assert shared.state() == State(Phase.CLOSED, failures=1, requests=1, failed_requests=1)


class Twins(RuleBasedStateMachine):
    """Both state machines are told the same, and must say the same."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.clock = Clock()
        self.calls: list[tuple[Admission, Admission]] = []
        self.probes: list[tuple[float, Admission]] = []

    @initialize(
        failures=st.integers(1, 5),
        successes=st.integers(1, 3),
        rate=st.sampled_from([0.1, 1 / 3, 0.5, 1.0]),
        least=st.integers(1, 8),
        window_s=st.sampled_from([0.1, 7.0, 60.0]),
    )
    def set_up(
        self, failures: int, successes: int, rate: float, least: int, window_s: float
    ) -> None:
        thresholds = Thresholds(failures, 30.0, successes, rate, least, window_s, probe_s=20.0)
        self.local = MemoryBreaker(thresholds, self.clock)
        self.shared = RedisBreaker(self.client, "twins:", "a", thresholds, self.clock)

    @rule(times=st.integers(1, 4))
    def admit(self, times: int) -> None:
        for _ in range(times):
            one, other = self.local.admit(), self.shared.admit()
            assert replace(one, ticket=0) == replace(other, ticket=0)
            if one.probe:
                at_s = self.clock.now_s
                assert all(abs(at_s - since_s) >= 20.0 for since_s, _ in self.probes)
                self.probes.append((at_s, one))
            self.calls.append((one, other))

    @rule(data=st.data(), what=st.sampled_from(["succeeded", "failed", "certain", "abandoned"]))
    def report(self, data: st.DataObject, what: str) -> None:
        """Of any call, the last ones most of all; of some of them twice."""
        if not self.calls:
            return
        at = data.draw(st.integers(0, min(9, len(self.calls) - 1)))
        both = self.calls[-1 - at]
        if data.draw(st.booleans()):
            del self.calls[-1 - at]
        before = self.local.state()
        changed = tell(self.local, both[0], what)
        assert changed == tell(self.shared, both[1], what)
        after = self.local.state()
        if changed:
            assert after.phase is (Phase.CLOSED if what == "succeeded" else Phase.OPEN)
        if before.phase is not Phase.CLOSED and after.phase is Phase.CLOSED:
            assert what == "succeeded"
            assert both[0].probe
        self.probes = [one for one in self.probes if one[1] is not both[0]]

    @rule(seconds=st.sampled_from([0.001, 1.0, 3.5, 19.999, 20.0, 30.0, 100.0, -5.0]))
    def pass_s(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        if seconds < 0:
            self.probes.clear()  # leases begin again

    @invariant()
    def are_alike(self) -> None:
        if hasattr(self, "local"):
            state = self.local.state()
            assert state == self.shared.state()
            assert (state.retry_in_s == 0) or state.phase is not Phase.CLOSED


def tell(breaker: Breaker, admission: Admission, what: str) -> bool:
    if what == "succeeded":
        return breaker.succeeded(admission)
    if what == "abandoned":
        breaker.abandon(admission)
        return False
    return breaker.failed(admission, for_certain=what == "certain")


def test_both_state_machines_are_the_same(client: redis.Redis) -> None:
    twins = type("Twins", (Twins,), {"client": client})
    few = settings(
        max_examples=100,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_machine(twins, settings=few)
