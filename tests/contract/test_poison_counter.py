"""`PoisonCounter`, held against each of its implementations: memory and Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from embed_star.coordination import client as connection
from embed_star.embed.poison import (
    REMEMBERED_S,
    MemoryPoisonCounter,
    PoisonCounter,
    RedisPoisonCounter,
)


class Clock:
    """A time that passes when it is told to."""

    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, clock: Clock) -> Callable[..., PoisonCounter]:
    if request.param == "memory":
        return lambda *_: MemoryPoisonCounter(clock)
    client = request.getfixturevalue("client")
    return lambda *names: RedisPoisonCounter(client, "test:", *names, clock=clock)


@pytest.fixture
def counter(make: Callable[..., PoisonCounter]) -> PoisonCounter:
    return make()


def test_nothing_is_noted_at_first(counter: PoisonCounter) -> None:
    assert counter.counts(["a", "b"]) == {}
    assert counter.alone() == 0


def test_each_failure_of_a_text_alone_counts_one_more(counter: PoisonCounter) -> None:
    assert [counter.add("a") for _ in range(3)] == [1, 2, 3]
    assert counter.add("b") == 1
    assert counter.counts(["b", "unknown", "a"]) == {"a": 3, "b": 1}
    assert counter.alone() == 2


def test_texts_that_failed_together_are_not_counted_as_alone(counter: PoisonCounter) -> None:
    counter.add_together(["a", "b"])
    counter.add_together(["a"])
    assert counter.counts("ab") == {"a": 2, "b": 1}
    assert counter.alone() == 0
    assert counter.add("a") == 3
    assert counter.alone() == 1


def test_what_was_embedded_after_all_is_forgotten(counter: PoisonCounter) -> None:
    for one in "abc":
        counter.add(one)
    counter.clear("a", "b", "unknown")
    assert counter.counts("abc") == {"c": 1}
    assert counter.alone() == 1
    assert counter.add("a") == 1


def test_texts_that_failed_long_ago_are_not_counted_as_alone(
    counter: PoisonCounter, clock: Clock
) -> None:
    counter.add("a")
    clock.now_s += REMEMBERED_S / 2
    counter.add("b")
    assert counter.alone() == 2
    clock.now_s += REMEMBERED_S / 2 + 1
    assert counter.alone() == 1
    counter.add("a")
    assert counter.alone() == 2


def test_two_servers_and_two_kinds_are_counted_apart(make: Callable[..., PoisonCounter]) -> None:
    counters = [make(), make("server"), make("server", "throttled")]
    for times, counter in enumerate(counters, 1):
        for _ in range(times):
            counter.add("a")
    assert [counter.counts("a") for counter in counters] == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert counters[1].counts_beside(counters[2], "ba") == [{"a": 2}, {"a": 3}]


def test_a_note_in_memory_ends_as_one_in_redis_does(clock: Clock) -> None:
    """In Redis by its own clock, which no test can move: `test_lost_answers` sees its time."""
    counter = MemoryPoisonCounter(clock)
    counter.add("a")
    clock.now_s += REMEMBERED_S
    assert counter.counts("a") == {}
    assert counter.add("a") == 1
