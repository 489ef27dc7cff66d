"""The steps of a provider call, in their order, and a Redis that is away at each of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from embed_star.calling.breaker.breaker import Admission, NeverOpen, Phase, Thresholds
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.canary import Canary
from embed_star.calling.gateway import CallLimits, ProviderGateway
from embed_star.calling.rate_limit.memory import MemoryRateLimiter
from embed_star.calling.rate_limit.rate_limiter import Grant, Limits, Wait
from embed_star.calling.validation import Validator
from embed_star.errors import ProviderPaused, ProviderThrottled, RedisUnavailable
from embed_star.events import Event, ProviderCalled
from embed_star.models import Space
from embed_star.shutdown import Shutdown
from tests.support.in_process_provider import InProcessProvider
from tests.support.servers import eventually
from tests.support.world import Unclaimed

DIMENSIONS = 8


class Steps:
    """What was done, in order, and at which step Redis is away."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.away: set[str] = set()

    def step(self, name: str) -> None:
        self.done.append(name)
        if name in self.away:
            raise RedisUnavailable(f"Redis: cannot {name}")

    def hear(self, event: Event) -> None:
        if isinstance(event, ProviderCalled):
            self.done.append("timed")


class WatchedBreaker(NeverOpen):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def admit(self) -> Admission:
        self._steps.step("admit")
        return super().admit()

    def succeeded(self, admission: Admission) -> bool:
        self._steps.step("succeeded")
        return super().succeeded(admission)

    def abandon(self, admission: Admission) -> None:
        self._steps.step("abandon")


class WatchedLimiter(MemoryRateLimiter):
    def __init__(self, steps: Steps) -> None:
        super().__init__(Limits(600, 60_000))
        self._steps = steps

    def take(self, tokens: int, *, requests: int = 1, reserved: bool = False) -> Grant | Wait:
        self._steps.step("take")
        return super().take(tokens, requests=requests, reserved=reserved)

    def settle(self, grant: Grant, actual_tokens: int) -> None:
        self._steps.step("settle")
        super().settle(grant, actual_tokens)

    def pause(self, seconds: float) -> None:
        self._steps.step("pause")
        super().pause(seconds)


class NoSpaces:
    """Records of spaces that know of no model."""

    def identity(self, space: Space) -> None:
        """Nothing is recorded."""

    def record_identity(self, space: Space, identity: object) -> None:
        """Forgotten at once."""


class Claim(Unclaimed):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def renew(self) -> None:
        self._steps.step("renew")


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def provider(steps: Steps) -> InProcessProvider:
    provider = InProcessProvider(DIMENSIONS)
    provider.during = lambda _: steps.step("call")
    return provider


Make = Callable[..., ProviderGateway]


@pytest.fixture
def make(steps: Steps, provider: InProcessProvider) -> Make:
    spaces: Any = NoSpaces()
    space = Space("openai", "m", DIMENSIONS, "v1")

    def make(**changes: Any) -> ProviderGateway:
        parts: dict[str, Any] = {
            "breaker": WatchedBreaker(steps),
            "rate_limiter": WatchedLimiter(steps),
            "canary": Canary(Validator(), spaces, space),
            "shutdown": Shutdown(1.0),
            "limits": CallLimits(
                dimensions=DIMENSIONS,
                first_calls=1,
                most_calls=1,
                throttled_pause_s=5.0,
                estimate_tokens=len,
            ),
            "emit": steps.hear,
        }
        return ProviderGateway(provider, **{**parts, **changes})

    return make


def embed(gateway: ProviderGateway, steps: Steps) -> int:
    """Embed two texts; how many vectors there are."""
    with gateway.embed(["a", "b"], Claim(steps)) as vectors:
        return len(vectors)


def test_steps_are_in_their_order(make: Make, steps: Steps) -> None:
    assert embed(make(), steps) == 2
    assert steps.done == ["renew", "admit", "take", "call", "timed", "settle", "succeeded"]


def test_the_place_of_a_call_is_held_until_its_vectors_are_kept(make: Make, steps: Steps) -> None:
    gateway = make()
    with ThreadPoolExecutor(1) as thread:
        with gateway.embed(["a"], Claim(steps)):
            other = thread.submit(gateway.search, "b")
            eventually(other.running, "another thread calls")
            assert steps.done.count("call") == 1
        assert other.result(5.0).vectors.shape == (1, DIMENSIONS)


@pytest.mark.parametrize(
    ("away", "done"),
    [("admit", ["renew", "admit"]), ("take", ["renew", "admit", "take", "abandon"])],
)
def test_without_redis_a_call_is_refused_before_it_is_paid(
    make: Make, steps: Steps, provider: InProcessProvider, away: str, done: list[str]
) -> None:
    steps.away = {away}
    with pytest.raises(RedisUnavailable):
        embed(make(), steps)
    assert steps.done == done
    assert provider.calls == []


def test_a_probe_that_cannot_be_given_back_hides_no_error(make: Make, steps: Steps) -> None:
    steps.away = {"take", "abandon"}
    with pytest.raises(RedisUnavailable, match="cannot take"):
        embed(make(), steps)


@pytest.mark.parametrize("away", ["settle", "succeeded"])
def test_vectors_are_not_lost_because_their_call_could_not_be_reported(
    make: Make, steps: Steps, away: str
) -> None:
    steps.away = {away}
    with capture_logs() as logs:
        assert embed(make(), steps) == 2
    assert [one["event"] for one in logs] == ["call_not_reported"]


def test_a_429_stays_one_when_the_fleet_cannot_be_paused(
    make: Make, steps: Steps, provider: InProcessProvider
) -> None:
    steps.away = {"pause", "abandon"}
    provider.errors = [ProviderThrottled("429")]
    with pytest.raises(ProviderThrottled) as caught:
        embed(make(), steps)
    assert (caught.value.retry_after_s, caught.value.answered) == (5.0, True)


class TestSearch:
    def test_asks_no_breaker(self, make: Make, steps: Steps) -> None:
        breaker = MemoryBreaker(Thresholds(1, 30.0, 1))
        breaker.failed(breaker.admit())
        gateway = make(breaker=breaker)
        with pytest.raises(ProviderPaused):
            embed(gateway, steps)
        assert gateway.search("x").vectors.shape == (1, DIMENSIONS)
        assert breaker.state().phase is Phase.OPEN

    def test_goes_on_without_redis_and_says_so_once(self, make: Make, steps: Steps) -> None:
        gateway = make()
        steps.away = {"take"}
        with capture_logs() as logs:
            for _ in range(3):
                assert gateway.search("x").vectors.shape == (1, DIMENSIONS)
        assert [one["event"] for one in logs] == ["budget_without_redis"]
        steps.away = set()
        gateway.search("x")
        steps.away = {"take"}
        with capture_logs() as logs:
            gateway.search("x")
        assert len(logs) == 1, "and again when Redis was there in between"


def test_an_error_while_vectors_are_kept_frees_the_place(make: Make, steps: Steps) -> None:
    gateway = make()
    with pytest.raises(ZeroDivisionError), gateway.embed(["a"], Claim(steps)):
        raise ZeroDivisionError
    assert embed(gateway, steps) == 2
