"""`Claims`, over locks in memory, and over Redis with each SurrealDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from embed_star.claims.claims import Claim, Claims, LockRecords
from embed_star.claims.memory import MemoryClaims, MemoryLocks
from embed_star.claims.redis_locks import LockLayer
from embed_star.errors import FenceLost, RedisUnavailable, StoreUnavailable
from embed_star.events import Event, RowsContended
from embed_star.models import Key
from embed_star.services import Services
from embed_star.settings import load_settings
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.locks import MemoryLockTable
from tests.conftest import fresh_database
from tests.support.servers import eventually

TTL_S = 60.0
RENEW_BEFORE_S = 40.0
SHORT_S = 0.05


@dataclass
class Clock:
    """A time that passes when it is told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Unheard:
    """A layer whose next answers are lost: `errors` are raised after it has done its part."""

    layer: Any
    method: str
    errors: list[Exception]

    def __getattr__(self, name: str) -> Any:
        right = getattr(self.layer, name)
        if name != self.method:
            return right

        def unheard(*arguments: Any) -> Any:
            answer = right(*arguments)
            if self.errors:
                raise self.errors.pop(0)
            return answer

        return unheard


class Away:
    """A layer that cannot be reached."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        raise self._error

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        raise self._error

    def release(self, keys: Sequence[Key], token: str) -> None:
        raise self._error

    def held(self, keys: Sequence[Key], token: str) -> list[bool]:
        raise self._error


NO_REDIS = Away(RedisUnavailable("away"))
NO_DATABASE = Away(StoreUnavailable("away"))


@dataclass
class Layers:
    """Both layers of one database, and claims of any process on them."""

    redis: LockLayer
    records: LockRecords
    kind: Callable[..., Claims] = Claims
    events: list[Event] = field(default_factory=list)

    def claims(self, **changes: Any) -> Claims:
        """Claims whose layers, TTL or clock may be others."""
        usual = {
            "redis": self.redis,
            "records": self.records,
            "ttl_s": TTL_S,
            "renew_before_s": RENEW_BEFORE_S,
            "emit": self.events.append,
        }
        return self.kind(**(usual | changes))

    def free(self, layer: LockLayer, *keys: Key) -> list[bool]:
        """Which of `keys` are free in `layer`; they stay so."""
        free = layer.acquire(keys, "look", TTL_S)
        layer.release(keys, "look")
        return free


@pytest.fixture(params=["memory", "server", "embedded"])
def layers(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[Layers]:
    if request.param == "memory":
        records = MemoryLockTable(MemoryDatabase(time.time))
        yield Layers(MemoryLocks(), records, MemoryClaims)
        return
    servers = request.getfixturevalue({"server": "surreal", "embedded": "gateway"}[request.param])
    values = fresh_database(servers) | {"redis_url": request.getfixturevalue("redis_url")}
    with Services(load_settings(_env_file=None, **values)) as services:
        services.store.migrator.apply()
        yield Layers(services.locks, services.store.locks)


class TestClaim:
    def test_free_rows_are_won_in_both_layers(self, layers: Layers) -> None:
        claims = layers.claims()
        assert claims.claim(["a", "b"], "one") == [True, True]
        assert claims.held(["a", "b"], "one") == [True, True]
        assert layers.free(layers.redis, "a", "b", "c") == [False, False, True]
        assert layers.free(layers.records, "a", "b", "c") == [False, False, True]
        assert layers.events == []

    def test_rows_of_another_run_are_not_won(self, layers: Layers) -> None:
        layers.claims().claim(["b", "d"], "one")
        claims = layers.claims()
        assert claims.claim(["a", "b", "c", "d"], "two") == [True, False, True, False]
        assert claims.held(["a", "b", "c", "d"], "two") == [True, False, True, False]

    def test_nothing_asked(self, layers: Layers) -> None:
        assert layers.claims().claim([], "one") == []
        assert layers.events == []

    def test_contention_in_redis_keeps_rows_away_from_the_database(self, layers: Layers) -> None:
        layers.redis.acquire(["b"], "another", TTL_S)
        assert layers.claims().claim(["a", "b", "c"], "one") == [True, False, True]
        assert layers.free(layers.records, "a", "b", "c") == [False, True, False]
        assert layers.events == [RowsContended("redis", 1)]

    def test_when_all_are_contended_in_redis_the_database_is_not_asked(
        self, layers: Layers
    ) -> None:
        layers.redis.acquire(["a", "b"], "another", TTL_S)
        assert layers.claims(records=NO_DATABASE).claim(["a", "b"], "one") == [False, False]
        assert layers.events == [RowsContended("redis", 2)]

    def test_rows_contended_in_the_database_are_free_in_redis(self, layers: Layers) -> None:
        layers.records.acquire(["b"], "another", TTL_S)
        assert layers.claims().claim(["a", "b", "c"], "one") == [True, False, True]
        assert layers.free(layers.redis, "a", "b", "c") == [False, True, False]
        assert layers.events == [RowsContended("surrealdb", 1)]

    def test_rows_contended_in_either_layer_are_answered_in_order(self, layers: Layers) -> None:
        layers.redis.acquire(["a", "d"], "another", TTL_S)
        layers.records.acquire(["b"], "another", TTL_S)
        won = layers.claims().claim(["a", "b", "c", "d", "e"], "one")
        assert won == [False, False, True, False, True]
        assert layers.events == [RowsContended("redis", 2), RowsContended("surrealdb", 1)]

    def test_two_at_once_win_each_row_exactly_once(self, layers: Layers) -> None:
        keys = [f"row {number}" for number in range(100)]
        start = threading.Barrier(2)

        def claim(run_id: str) -> list[str]:
            claims, won = layers.claims(), []
            start.wait()
            for at in range(0, len(keys), 10):
                page = keys[at : at + 10]
                flags = claims.claim(page, run_id)
                won += [key for key, mine in zip(page, flags, strict=True) if mine]
            return won

        with ThreadPoolExecutor(2) as threads:
            one, two = threads.map(claim, ["one", "two"])
        assert set(one) & set(two) == set()
        assert layers.claims().held(one, "one") == [True] * len(one)
        assert layers.claims().held(two, "two") == [True] * len(two)

    def test_locks_end_by_themselves(self, layers: Layers) -> None:
        layers.claims(ttl_s=SHORT_S).claim(["a"], "one")
        claims = layers.claims()
        eventually(lambda: claims.claim(["a"], "two") == [True], "the locks end")
        assert claims.held(["a"], "one") == [False]


class TestOutages:
    def test_without_redis_nothing_is_claimed_in_the_database(self, layers: Layers) -> None:
        with pytest.raises(RedisUnavailable):
            layers.claims(redis=NO_REDIS).claim(["a"], "one")
        assert layers.free(layers.records, "a") == [True]

    def test_without_the_database_nothing_stays_claimed_in_redis(self, layers: Layers) -> None:
        with pytest.raises(StoreUnavailable):
            layers.claims(records=NO_DATABASE).claim(["a"], "one")
        assert layers.free(layers.redis, "a") == [True]

    @pytest.mark.parametrize("layer", ["redis", "records"])
    def test_a_claim_whose_answer_was_lost_is_released(self, layers: Layers, layer: str) -> None:
        error = {"redis": RedisUnavailable, "records": StoreUnavailable}[layer]("no answer")
        unheard = Unheard(getattr(layers, layer), "acquire", [error])
        claims = layers.claims(**{layer: unheard})
        with pytest.raises(type(error)):
            claims.claim(["a", "b"], "one")
        assert layers.free(getattr(layers, layer), "a", "b") == [False, False]
        assert claims.release_unsure()
        assert not claims.release_unsure()
        assert claims.claim(["a", "b"], "two") == [True, True]

    def test_each_unsure_claim_is_released(self, layers: Layers) -> None:
        lost: list[Exception] = [RedisUnavailable("no answer") for _ in range(2)]
        claims = layers.claims(redis=Unheard(layers.redis, "acquire", lost))
        for key, run_id in [("a", "one"), ("b", "two")]:
            with pytest.raises(RedisUnavailable):
                claims.claim([key], run_id)
        assert [claims.release_unsure() for _ in range(3)] == [True, True, False]
        assert claims.claim(["a", "b"], "three") == [True, True]

    def test_a_claim_stays_unsure_until_it_can_be_released(self, layers: Layers) -> None:
        lost: list[Exception] = [StoreUnavailable("no answer")]
        deaf = Unheard(layers.records, "acquire", lost)
        cut_off = Unheard(deaf, "release", [StoreUnavailable("away") for _ in range(2)])
        claims = layers.claims(records=cut_off)
        with pytest.raises(StoreUnavailable):
            claims.claim(["a"], "one")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                claims.release_unsure()
        assert claims.release_unsure()
        assert claims.claim(["a"], "two") == [True]

    def test_an_unsure_claim_whose_locks_are_over_asks_nobody(self, layers: Layers) -> None:
        clock = Clock()
        claims = layers.claims(redis=NO_REDIS, records=NO_DATABASE, clock=clock)
        with pytest.raises(RedisUnavailable):
            claims.claim(["a"], "one")
        clock.now_s = TTL_S
        assert claims.release_unsure()
        assert not claims.release_unsure()

    def test_a_claim_that_was_answered_is_not_unsure(self, layers: Layers) -> None:
        layers.records.acquire(["b"], "another", TTL_S)
        claims = layers.claims()
        claims.claim(["a", "b"], "one")
        assert not claims.release_unsure()
        assert claims.held(["a"], "one") == [True]


class TestRelease:
    def test_released_rows_are_free_in_both_layers(self, layers: Layers) -> None:
        claims = layers.claims()
        claims.claim(["a", "b"], "one")
        claims.release(["a"], "one")
        assert claims.claim(["a", "b"], "two") == [True, False]

    def test_a_second_release_changes_nothing(self, layers: Layers) -> None:
        claims = layers.claims()
        claims.claim(["a"], "one")
        claims.release(["a"], "one")
        claims.claim(["a"], "two")
        claims.release(["a", "unknown"], "one")
        assert claims.claim(["a"], "three") == [False]
        assert claims.held(["a"], "two") == [True]

    def test_without_the_database_redis_s_locks_are_released(self, layers: Layers) -> None:
        layers.claims().claim(["a"], "one")
        layers.claims(records=NO_DATABASE).release(["a"], "one")
        assert layers.free(layers.redis, "a") == [True]
        assert layers.claims().held(["a"], "one") == [True]

    def test_without_redis_the_database_s_locks_are_released(self, layers: Layers) -> None:
        layers.claims().claim(["a"], "one")
        with pytest.raises(RedisUnavailable):
            layers.claims(redis=NO_REDIS).release(["a"], "one")
        assert layers.free(layers.records, "a") == [True]

    def test_after_the_bulk_write_only_redis_is_asked(self, layers: Layers) -> None:
        layers.claims().claim(["a"], "one")
        layers.records.release(["a"], "one")  # what the write does
        layers.claims(records=NO_DATABASE).release_written(["a"], "one")
        assert layers.claims().claim(["a"], "two") == [True]


class TestRenew:
    def test_renewed_locks_last_longer_in_both_layers(self, layers: Layers) -> None:
        layers.claims(ttl_s=0.5).claim(["a", "b"], "one")
        assert layers.claims().renew(["a"], "one") == [True]
        two = layers.claims()
        eventually(lambda: two.claim(["b"], "two") == [True], "the other locks end")
        assert layers.free(layers.redis, "a") == [False]
        assert layers.free(layers.records, "a") == [False]

    def test_says_which_rows_are_lost_and_takes_none_over(self, layers: Layers) -> None:
        claims = layers.claims()
        claims.claim(["a", "c"], "one")
        claims.claim(["b"], "two")
        assert claims.renew(["a", "b", "c", "free"], "one") == [True, False, True, False]
        assert claims.claim(["free"], "two") == [True]
        assert claims.held(["b"], "two") == [True]

    def test_without_redis_the_database_s_locks_are_renewed(self, layers: Layers) -> None:
        layers.claims(ttl_s=0.5).claim(["a", "b"], "one")
        assert layers.claims(redis=NO_REDIS).renew(["a"], "one") == [True]
        two = layers.claims()
        eventually(lambda: two.claim(["b"], "two") == [True], "the other locks end")
        assert layers.free(layers.records, "a") == [False]

    def test_without_the_database_it_fails(self, layers: Layers) -> None:
        with pytest.raises(StoreUnavailable):
            layers.claims(records=NO_DATABASE).renew(["a"], "one")


class TestClaimUnderWay:
    """`Claim.renew`, as it comes before each call of the provider."""

    def test_costs_nothing_while_the_locks_last(self, layers: Layers) -> None:
        claims = layers.claims(redis=NO_REDIS, records=NO_DATABASE, clock=Clock())
        Claim(claims, "one", ["a"], until=RENEW_BEFORE_S + 0.1).renew()

    def test_renews_when_too_little_is_left(self, layers: Layers) -> None:
        layers.claims(ttl_s=0.5).claim(["a", "b"], "one")
        claims = layers.claims(clock=Clock())
        claim = Claim(claims, "one", ["a"], until=RENEW_BEFORE_S)
        claim.renew()
        assert claim.until == TTL_S
        eventually(lambda: claims.claim(["b"], "two") == [True], "the other locks end")
        assert claims.claim(["a"], "two") == [False]

    def test_a_renewal_is_good_for_the_calls_after_it(self, layers: Layers) -> None:
        clock, renewed = Clock(), list[float]()
        claims = layers.claims(clock=clock)
        claims.claim(["a"], "one")
        claim = Claim(claims, "one", ["a"], until=TTL_S)
        for clock.now_s in (0.0, 10.0, 19.9, 20.0, 30.0, 39.9, 40.0):
            before = claim.until
            claim.renew()
            renewed += [clock.now_s] if claim.until != before else []
        assert renewed == [20.0, 40.0]

    def test_a_row_of_another_run_is_a_lost_fence(self, layers: Layers) -> None:
        claims = layers.claims(clock=Clock())
        claims.claim(["a"], "one")
        claims.claim(["b"], "two")
        claim = Claim(claims, "one", ["a", "b"], until=0.0)
        with pytest.raises(FenceLost, match="1 of 2"):
            claim.renew()
        assert claim.until == 0.0  # so the next renewal looks again
