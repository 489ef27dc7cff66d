"""`LockLayer`, held against each of its implementations: memory, Redis, both SurrealDBs."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from embed_star.claims.memory import MemoryLocks
from embed_star.claims.redis_locks import LockLayer, RedisLocks
from embed_star.coordination import client as connection
from embed_star.models import Key, key_text
from embed_star.services import Services
from embed_star.settings import load_settings
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.locks import MemoryLockTable
from embed_star.store.tables.locks import LockTable
from tests.conftest import fresh_database
from tests.support.servers import eventually

LONG_S = 3600.0
SHORT_S = 0.05
KEYS: list[Key] = [
    1,
    "1",
    "a/b",
    UUID(int=7),
    "00000000-0000-0000-0000-000000000007",
    ["a", 1, ["b"]],
    "a, 1",
    {"x": 1, "y": {"z": "ü"}},
    -5,
    "⟨`'\";\n⟩",
    "",
]


@pytest.fixture(params=["memory", "memory-table", "redis", "server", "embedded"])
def layer(
    request: pytest.FixtureRequest,
    clean_environment: None,
) -> Iterator[LockLayer]:
    if request.param == "memory":
        yield MemoryLocks()
    elif request.param == "memory-table":
        yield MemoryLockTable(MemoryDatabase(time.time))
    elif request.param == "redis":
        with connection.connect(request.getfixturevalue("redis_url"), 5.0) as client:
            yield RedisLocks(client, "test:")
    else:
        name = "surreal" if request.param == "server" else "gateway"
        values = fresh_database(request.getfixturevalue(name))
        with Services(load_settings(_env_file=None, **values)) as services:
            services.store.migrator.apply()
            yield services.store.locks


@pytest.fixture
def _many_switches() -> Iterator[None]:
    """Threads take turns within the shortest of methods."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestAcquire:
    def test_free_keys_are_won_and_taken_ones_are_not(self, layer: LockLayer) -> None:
        assert layer.acquire(["a", "b"], "one", LONG_S) == [True, True]
        assert layer.acquire(["a", "b"], "two", LONG_S) == [False, False]

    def test_a_page_is_won_in_part_and_answered_in_order(self, layer: LockLayer) -> None:
        layer.acquire(["b", "d"], "one", LONG_S)
        won = layer.acquire(["a", "b", "c", "d", "e"], "two", LONG_S)
        assert won == [True, False, True, False, True]

    def test_a_lock_is_not_won_twice_by_its_own_token(self, layer: LockLayer) -> None:
        layer.acquire(["a"], "one", LONG_S)
        assert layer.acquire(["a", "b"], "one", LONG_S) == [False, True]

    def test_what_was_lost_is_not_held(self, layer: LockLayer) -> None:
        layer.acquire(["a"], "one", LONG_S)
        layer.acquire(["a", "b"], "two", LONG_S)
        assert layer.extend(["a", "b"], "two", LONG_S) == [False, True]

    def test_no_keys_are_no_error(self, layer: LockLayer) -> None:
        assert layer.acquire([], "one", LONG_S) == []
        assert layer.extend([], "one", LONG_S) == []
        layer.release([], "one")

    def test_every_type_of_key_can_be_locked(self, layer: LockLayer) -> None:
        for key in KEYS:
            assert layer.acquire([key], "one", LONG_S) == [True], key
            assert layer.acquire([key], "two", LONG_S) == [False], key
            assert layer.extend([key], "one", LONG_S) == [True], key
            layer.release([key], "one")
            assert layer.acquire([key], "two", LONG_S) == [True], key

    def test_keys_that_look_alike_are_different_ones(self, layer: LockLayer) -> None:
        for number, key in enumerate(KEYS):
            assert layer.acquire([key], f"token {number}", LONG_S) == [True]
        held = [layer.extend(KEYS, f"token {number}", LONG_S) for number in range(len(KEYS))]
        assert held == [[i == number for i in range(len(KEYS))] for number in range(len(KEYS))]

    @pytest.mark.usefixtures("_many_switches")
    def test_two_at_once_win_each_key_exactly_once(self, layer: LockLayer) -> None:
        for attempt in range(5):
            keys = [f"{attempt}/{number}" for number in range(200)]
            start = threading.Barrier(2)

            def claim(token: str, keys: list[str] = keys, start: threading.Barrier = start):  # type: ignore[no-untyped-def]
                order = random.Random(token).sample(keys, len(keys))  # noqa: S311 - an order
                won: list[str] = []
                start.wait()
                for at in range(0, len(order), 20):
                    page = order[at : at + 20]
                    flags = layer.acquire(page, token, LONG_S)
                    won += [key for key, mine in zip(page, flags, strict=True) if mine]
                return won

            with ThreadPoolExecutor(2) as threads:
                both = list(threads.map(claim, ["one", "two"]))
            # Whatever was lost in a collision is free still; and nothing was won twice.
            taken = both[0] + both[1]
            assert len(set(taken)) == len(taken)
            free = layer.acquire(keys, "three", LONG_S)
            assert sorted(taken) == sorted(k for k, f in zip(keys, free, strict=True) if not f)
            for token, won in zip(["one", "two"], both, strict=True):
                assert all(layer.extend(won, token, LONG_S))


class TestTheEnd:
    def test_released_keys_are_free(self, layer: LockLayer) -> None:
        layer.acquire(["a", "b"], "one", LONG_S)
        layer.release(["a"], "one")
        assert layer.acquire(["a", "b"], "two", LONG_S) == [True, False]

    def test_nobody_releases_or_extends_another_s(self, layer: LockLayer) -> None:
        layer.acquire(["a"], "one", LONG_S)
        layer.release(["a", "unknown"], "two")
        assert layer.extend(["a", "unknown"], "two", LONG_S) == [False, False]
        assert layer.acquire(["a"], "two", LONG_S) == [False]
        assert layer.extend(["a"], "one", LONG_S) == [True]

    def test_an_extension_makes_no_lock(self, layer: LockLayer) -> None:
        assert layer.extend(["a"], "one", LONG_S) == [False]
        assert layer.acquire(["a"], "two", LONG_S) == [True]

    def test_a_lock_ends_by_itself_and_another_takes_over(self, layer: LockLayer) -> None:
        layer.acquire(["a", "b"], "one", SHORT_S)
        layer.acquire(["c"], "one", LONG_S)
        eventually(lambda: layer.acquire(["a"], "two", LONG_S)[0], "a lock ends")
        assert layer.acquire(["b", "c"], "two", LONG_S) == [True, False]
        # The one that was late changes nothing.
        assert layer.extend(["a", "b", "c"], "one", LONG_S) == [False, False, True]
        layer.release(["a", "b"], "one")
        assert layer.extend(["a", "b"], "two", LONG_S) == [True, True]

    def test_an_extended_lock_outlives_its_first_time(self, layer: LockLayer) -> None:
        layer.acquire(["a", "b"], "one", 0.5)
        assert layer.extend(["a"], "one", LONG_S) == [True]
        eventually(lambda: layer.acquire(["b"], "two", LONG_S)[0], "the other lock ends")
        assert layer.acquire(["a"], "two", LONG_S) == [False]

    def test_an_extension_may_shorten(self, layer: LockLayer) -> None:
        layer.acquire(["a"], "one", LONG_S)
        layer.extend(["a"], "one", SHORT_S)
        eventually(lambda: layer.acquire(["a"], "two", LONG_S)[0], "the shortened lock ends")


@pytest.mark.parametrize("layer", ["memory-table", "server", "embedded"], indirect=True)
class TestTheTable:
    """What only the layer in SurrealDB and its twin have."""

    @pytest.fixture
    def table(self, layer: LockLayer) -> LockTable | MemoryLockTable:
        assert isinstance(layer, LockTable | MemoryLockTable)
        return layer

    def test_held_asks_for_the_token_only(self, table: LockTable | MemoryLockTable) -> None:
        table.acquire(["a", "b"], "one", SHORT_S)
        table.acquire(["c"], "two", LONG_S)
        assert table.held(["c", "b", "a", "d"], "one") == [False, True, True, False]
        eventually(lambda: table.acquire(["a"], "two", LONG_S)[0], "a lock ends")
        assert table.held(["a", "b"], "one") == [False, True]

    def test_live_asks_for_anybody_s(self, table: LockTable | MemoryLockTable) -> None:
        table.acquire(["a", "b"], "one", LONG_S)
        table.acquire(["c"], "two", SHORT_S)
        eventually(lambda: not table.live(["c"])[0], "a lock ends")
        assert table.live(["c", "b", "a", "d"]) == [False, True, True, False]
        assert table.live([]) == []

    def test_sweep_clears_what_is_long_over(self, table: LockTable | MemoryLockTable) -> None:
        table.acquire([*KEYS], "one", 0.001)
        table.acquire(["live"], "two", LONG_S)
        assert table.sweep(LONG_S) == 0
        cleared = 0

        def cleared_all() -> bool:
            nonlocal cleared
            cleared += table.sweep(0.0)
            return cleared == len(KEYS)

        eventually(cleared_all, "expired locks are cleared")
        assert table.held([*KEYS, "live"], "one") == [False] * (len(KEYS) + 1)
        assert table.held(["live"], "two") == [True]


def test_different_keys_have_different_texts() -> None:
    assert len({key_text(key) for key in KEYS}) == len(KEYS)
