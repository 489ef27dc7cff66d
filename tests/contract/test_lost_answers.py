"""Redis did what it was told, and its answer was lost: told again, it does nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from embed_star.calling.breaker.breaker import Phase, Thresholds
from embed_star.calling.breaker.shared import RedisBreaker
from embed_star.calling.rate_limit.rate_limiter import Grant, Limits
from embed_star.calling.rate_limit.shared import RedisRateLimiter
from embed_star.claims.redis_locks import RedisLocks
from embed_star.coordination import client as connection
from embed_star.coordination.in_flight import RedisInFlightLedger
from embed_star.embed.poison import RedisPoisonCounter
from embed_star.errors import RedisUnavailable
from embed_star.produce.leadership import Leadership
from tests.support.lost_answers import LostAnswers

SCRIPT = b"EVALSHA"
LONG_S = 3600.0


@pytest.fixture
def proxy(redis_url: str) -> Iterator[LostAnswers]:
    with LostAnswers(urlsplit(redis_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
def client(redis_url: str, proxy: LostAnswers) -> Iterator[redis.Redis]:
    """One whose scripts Redis knows already, so that what is lost is an answer to a run."""
    password = urlsplit(redis_url).password or ""
    with connection.connect(f"redis://:{password}@127.0.0.1:{proxy.port}/0", 5.0) as client:
        yield client


def test_what_was_claimed_is_won(client: redis.Redis, proxy: LostAnswers) -> None:
    locks = RedisLocks(client, "test:")
    locks.acquire(["taken"], "another", LONG_S)
    proxy.lose(SCRIPT)
    assert locks.acquire(["a", "taken", "b"], "run", LONG_S) == [True, False, True]
    assert proxy.lost == 1
    assert locks.acquire(["a"], "run", LONG_S) == [False]
    proxy.lose(SCRIPT)
    assert locks.extend(["a", "taken"], "run", LONG_S) == [True, False]
    proxy.lose(SCRIPT)
    locks.release(["a", "b"], "run")
    assert proxy.lost == 3
    assert locks.acquire(["a", "b"], "next", LONG_S) == [True, True]


def test_whoever_took_the_lease_leads(client: redis.Redis, proxy: LostAnswers) -> None:
    leases = RedisLocks(client, "test:", "lease")
    former = Leadership(leases, "former", LONG_S)
    former.hold()
    former.resign()
    proxy.lose(b"answer:")  # of the taking, not of the extension before it
    assert Leadership(leases, "one", LONG_S).hold()
    assert not Leadership(leases, "other", LONG_S).hold()
    assert proxy.lost == 1


@pytest.mark.alone  # the queue runs off by real time
def test_a_call_is_booked_once(client: redis.Redis, proxy: LostAnswers) -> None:
    budget = RedisRateLimiter(client, "test:", "a", Limits(60, 6000))
    budget.take(0, requests=0)
    for _ in range(10):
        proxy.lose(SCRIPT)
        assert isinstance(budget.take(100), Grant)
    assert proxy.lost == 10
    state = budget.state()
    once = RedisRateLimiter(client, "test:", "b", Limits(60, 6000))
    for _ in range(10):
        once.take(100)
    assert state.used_share == pytest.approx(once.state().used_share, abs=0.02)
    assert state.queue_s == pytest.approx(once.state().queue_s, abs=0.5)


def test_what_is_given_back_is_given_back_once(client: redis.Redis, proxy: LostAnswers) -> None:
    ends = {}
    for name in ("heard", "lost"):
        budget = RedisRateLimiter(client, "test:", name, Limits(600, 60_000))
        first, second = budget.take(1000), budget.take(1000)
        assert isinstance(first, Grant)
        assert isinstance(second, Grant)
        if name == "lost":
            proxy.lose(SCRIPT)
        budget.settle(first, 500)
        if name == "lost":
            proxy.lose(SCRIPT)
        budget.refund(second)
        ledger = client.hgetall(f"test:budget:{name}")
        ends[name] = (ledger[b"requests_now"], ledger[b"tokens_now"])
    assert proxy.lost == 2
    assert ends["lost"] == ends["heard"] == (b"1", b"500")


def test_a_failure_counts_once_and_a_probe_has_its_place(
    client: redis.Redis, proxy: LostAnswers
) -> None:
    now_s = 1000.0
    thresholds = Thresholds(failures=2, open_s=10.0, successes_to_close=2)
    breaker = RedisBreaker(client, "test:", "a", thresholds, lambda: now_s)
    breaker.failed(breaker.admit())
    breaker.succeeded(breaker.admit())
    proxy.lose(SCRIPT)
    assert not breaker.failed(breaker.admit())
    assert breaker.state().phase is Phase.CLOSED
    proxy.lose(b"failed")
    assert breaker.failed(breaker.admit())  # this one opened it, and is told so
    assert breaker.state().phase is Phase.OPEN
    now_s += 11.0
    for closes in (False, True):
        proxy.lose(SCRIPT)
        probe = breaker.admit()
        assert probe.allowed
        assert probe.probe
        proxy.lose(b"succeeded")
        assert breaker.succeeded(probe) is closes
    assert proxy.lost == 6


def test_runs_are_counted_once(client: redis.Redis, proxy: LostAnswers) -> None:
    runs = RedisInFlightLedger(client, "test:")
    runs.begin("warm", 1, LONG_S)
    runs.start("warm", 1, "m", LONG_S)
    runs.give_back("warm", 0)
    runs.finish("warm", {})
    proxy.lose(SCRIPT)
    runs.begin("run", 10, LONG_S)
    proxy.lose(SCRIPT)
    assert runs.start("run", 4, "message", LONG_S), "no copy of itself"
    assert not runs.start("run", 4, "message", LONG_S)
    proxy.lose(SCRIPT)
    runs.give_back("run", 3)
    counts = runs.counts()
    assert (counts.in_flight, counts.queued) == (7, 6)
    proxy.lose(SCRIPT)
    runs.finish("run", {"finished": 7, "embedded": 5})
    assert runs.totals() == {"finished": 7, "embedded": 5}
    assert proxy.lost == 4


def test_a_text_is_suspected_once(client: redis.Redis, proxy: LostAnswers) -> None:
    suspects = RedisPoisonCounter(client, "test:")
    suspects.add("other")
    proxy.lose(SCRIPT)
    assert suspects.add("text") == 1
    assert suspects.add("text") == 2
    assert suspects.counts(["text", "unknown"]) == {"text": 2}
    assert 0 < client.ttl("test:suspect::text") <= 3600
    assert proxy.lost == 1


def test_what_is_remembered_for_that_does_not_stay(client: redis.Redis) -> None:
    RedisLocks(client, "test:").acquire(["a"], "one", LONG_S)
    (name,) = client.keys("test:answer:*")
    assert 0 < client.pttl(name) <= 60_000


def test_an_answer_that_stays_lost_is_an_outage(client: redis.Redis, proxy: LostAnswers) -> None:
    locks = RedisLocks(client, "test:")
    locks.acquire(["warm"], "one", LONG_S)
    proxy.lose(SCRIPT, times=2)
    with pytest.raises(RedisUnavailable):
        locks.acquire(["a"], "one", LONG_S)
