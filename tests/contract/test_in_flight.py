"""`InFlightLedger`, held against each of its implementations: memory and Redis."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from embed_star.coordination import client as connection
from embed_star.coordination.in_flight import InFlightLedger, RedisInFlightLedger, RunCounts
from embed_star.coordination.memory import MemoryInFlightLedger
from tests.support.servers import eventually

LONG_S = 3600.0
SHORT_S = 0.05


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def ledger(request: pytest.FixtureRequest) -> InFlightLedger:
    if request.param == "memory":
        # Each look at the clock finds it 10 ms later.
        return MemoryInFlightLedger(itertools.count(0.0, 0.01).__next__)
    return RedisInFlightLedger(request.getfixturevalue("client"), "test:")


class TestCounts:
    @pytest.mark.parametrize("rows", [0, 1, 10, 1_000_000])
    def test_any_number_of_rows_can_be_begun_and_given_back(
        self, ledger: InFlightLedger, rows: int
    ) -> None:
        ledger.begin("run", 1_000_000, LONG_S)
        assert ledger.start("run", rows, "message", LONG_S)
        assert ledger.counts().queued == 1_000_000 - rows
        ledger.give_back("run", rows)
        assert ledger.counts().in_flight == 1_000_000 - rows

    def test_are_zero_before_anything_is_begun(self, ledger: InFlightLedger) -> None:
        assert ledger.counts() == RunCounts()
        assert ledger.totals() == {}

    def test_add_up_over_runs(self, ledger: InFlightLedger) -> None:
        ledger.begin("one", 3, LONG_S)
        ledger.begin("two", 5, LONG_S)
        ledger.start("two", 4, "message", LONG_S)
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued) == (8, 4)
        ledger.finish("two", {"finished": 5})
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued, counts.finished_total) == (3, 3, 5)

    def test_numbers_stay_whole_however_large(self, ledger: InFlightLedger) -> None:
        ledger.begin("run", 2**50 + 1, LONG_S)
        ledger.start("run", 2**50, "message", LONG_S)
        assert ledger.counts().queued == 1
        ledger.finish("run", {"finished": 2**50 + 1})
        ledger.begin("next", 1, LONG_S)
        ledger.finish("next", {"finished": 2**50 + 1})
        assert ledger.totals() == {"finished": 2**51 + 2}
        assert ledger.counts().finished_total == 2**51 + 2

    def test_the_age_is_that_of_the_oldest_run_under_way(self, ledger: InFlightLedger) -> None:
        assert ledger.counts().oldest_age_s is None
        ledger.begin("old", 1, LONG_S)
        eventually(lambda: (ledger.counts().oldest_age_s or 0) > SHORT_S, "it grows older")
        ledger.begin("young", 1, LONG_S)
        assert (ledger.counts().oldest_age_s or 0) > SHORT_S
        ledger.finish("old", {})
        assert (ledger.counts().oldest_age_s or 0) < LONG_S
        ledger.finish("young", {})
        assert ledger.counts().oldest_age_s is None

    def test_a_run_ends_when_it_is_given_up(self, ledger: InFlightLedger) -> None:
        ledger.begin("kept", 3, LONG_S)
        ledger.begin("given up", 5, -1.0)
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued) == (3, 3)

    def test_an_unknown_run_may_be_finished_or_given_back(self, ledger: InFlightLedger) -> None:
        """Redis may have forgotten it."""
        ledger.give_back("unknown", 3)
        ledger.put_back("unknown", 3)
        assert ledger.start("unknown", 3, "message", LONG_S)
        ledger.finish("unknown", {"finished": 3, "embedded": 2})
        assert ledger.counts() == RunCounts(finished_total=3)
        assert ledger.totals() == {"finished": 3, "embedded": 2}


class TestACopyOfAMessage:
    def test_is_known_until_the_run_is_over(self, ledger: InFlightLedger) -> None:
        ledger.begin("run", 3, LONG_S)
        found = [ledger.start("run", 1, one, LONG_S) for one in ("a", "b", "a", "b", "c")]
        assert found == [True, True, False, False, True]
        assert ledger.counts().queued == 0  # a copy was not counted again
        ledger.finish("run", {})
        assert ledger.start("run", 1, "a", LONG_S)

    def test_of_another_run_is_another_message(self, ledger: InFlightLedger) -> None:
        assert ledger.start("one", 1, "a", LONG_S)
        assert ledger.start("two", 1, "a", LONG_S)

    def test_is_forgotten_after_its_time(self, ledger: InFlightLedger) -> None:
        ledger.begin("run", 3, LONG_S)
        assert ledger.start("run", 1, "a", SHORT_S)
        eventually(lambda: ledger.start("run", 1, "a", SHORT_S), "it is forgotten")

    def test_a_batch_that_is_tried_again_is_queued_meanwhile(self, ledger: InFlightLedger) -> None:
        ledger.begin("run", 10, LONG_S)
        assert ledger.start("run", 10, "id:0", LONG_S)
        ledger.put_back("run", 10)
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued) == (10, 10)
        assert ledger.start("run", 10, "id:1", LONG_S)
        assert not ledger.start("run", 10, "id:1", LONG_S)
        assert ledger.counts().queued == 0

    def test_a_batch_without_rows_is_begun_too(self, ledger: InFlightLedger) -> None:
        """Each such batch logged `run_not_counted`, and no copy of it was known for one."""
        ledger.begin("run", 10, LONG_S)
        assert ledger.start("run", 0, "id:1", LONG_S)
        assert not ledger.start("run", 0, "id:1", LONG_S)
        assert ledger.counts().queued == 10

    def test_is_begun_by_one_of_many_at_once(self, ledger: InFlightLedger) -> None:
        ledger.begin("run", 100, LONG_S)
        start = threading.Barrier(4)

        def begin(_: int) -> bool:
            start.wait()
            return ledger.start("run", 10, "message", LONG_S)

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(begin, range(4))) == [False, False, False, True]
        assert ledger.counts().queued == 90


class TestListening:
    def test_hears_of_ends_of_what_is_given_back_and_of_wakes(self, ledger: InFlightLedger) -> None:
        heard: list[bool] = []
        done = threading.Event()
        listener = threading.Thread(target=ledger.listen, args=(heard.append, done.is_set))
        listener.start()

        def rings(ring: object) -> None:
            known = len(heard)
            ring()  # type: ignore[operator]
            eventually(lambda: len(heard) == known + 1, "it is heard")

        def woken() -> bool:
            ledger.wake()
            return bool(heard)

        try:
            eventually(woken, "it listens")
            heard.clear()
            ledger.wake()  # the last of the wakes above may still be under way
            eventually(lambda: heard != [], "it is heard")
            ledger.finish("mark", {})
            ledger.give_back("run", 1)
            eventually(lambda: True in heard, "what was given back is heard")
            heard.clear()
            rings(lambda: ledger.finish("run", {}))
            rings(lambda: ledger.give_back("run", 1))
            rings(ledger.wake)
            assert heard == [False, True, False]
        finally:
            done.set()
            ledger.wake()
            listener.join()


class TestInRedis:
    """What only the ledger in Redis has."""

    def test_a_run_that_is_given_up_leaves_nothing(self, client: redis.Redis) -> None:
        ledger = RedisInFlightLedger(client, "test:")
        ledger.begin("kept", 3, LONG_S)
        ledger.begin("given up", 5, -1.0)
        ledger.counts()
        assert client.zcard("test:runs:ends") == 1

    def test_runs_that_it_remembers_by_halves_do_not_count(self, client: redis.Redis) -> None:
        """Else they would be in flight for good: nobody ends them, and nobody gives them up."""
        ledger = RedisInFlightLedger(client, "test:")
        ledger.begin("whole", 3, LONG_S)
        client.hset("test:runs:rows", "half", 400)
        client.hset("test:runs:queued", "half", -500)
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued) == (3, 3)
        assert client.hgetall("test:runs:rows") == {b"whole": b"3"}
        assert client.hgetall("test:runs:queued") == {b"whole": b"3"}
