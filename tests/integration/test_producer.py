"""The notifications and the poll that wake the producer, on real servers.

Where a test says NEVER_S, only the notification under test can have woken the producer.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from embed_star.errors import StoreUnavailable
from embed_star.produce import producer as producer_module
from embed_star.produce.backlog import Backlog, Tick
from embed_star.produce.live_query import LiveConnection
from tests.conftest import MakeWorld
from tests.support.running_producer import NEVER_S, OFTEN_S, TIMINGS, ObservedConnection, Start
from tests.support.servers import PROMPT_S, eventually
from tests.support.world import World

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class TestWakes:
    def test_at_the_poll(self, world: World, start: Start) -> None:
        producer = start(world, replace(TIMINGS, poll_s=OFTEN_S))
        for key in range(3):
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)

    def test_when_a_run_is_finished(self, world: World, start: Start) -> None:
        producer = start(world)
        assert producer.led.wait(PROMPT_S)
        channel = world.services.ledger.channel
        eventually(lambda: world.services.redis.pubsub_numsub(channel)[0][1] == 1, "it listens")
        for key in range(3):
            world.write(key, full_name="x")
            world.services.ledger.wake()
            assert producer.arrivals.next() == str(key)

    def test_when_rows_are_given_back_which_lie_behind(self, world: World, start: Start) -> None:
        producer = start(world)
        assert producer.led.wait(PROMPT_S)
        channel = world.services.ledger.channel
        eventually(lambda: world.services.redis.pubsub_numsub(channel)[0][1] == 1, "it listens")
        world.write(1, full_name="x")
        world.services.ledger.wake()
        assert producer.arrivals.next() == "1"
        ((_, (batch,)),) = producer.arrivals.runs
        world.lose(batch)
        world.services.ledger.give_back(batch.run_id, 1)
        assert producer.arrivals.next() == "1"
        assert world.services.ledger.counts().in_flight == 1  # of the new run

    def test_and_goes_on_with_what_there_was_no_room_for(
        self, make_world: MakeWorld, start: Start
    ) -> None:
        world = make_world(batch_size=2, chord_batches=1, max_in_flight_rows=2)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(7)], lane=1)
        producer = start(world)
        done: set[str] = set()
        channel = world.services.ledger.channel
        eventually(lambda: world.services.redis.pubsub_numsub(channel)[0][1] == 1, "it listens")
        while len(done) < 7:
            done.add(producer.arrivals.next())
            for _, run in producer.arrivals.runs:
                world.carry_out(run[0])
        assert world.vectors().keys() == done
        assert max(world.provider.paid.values()) == 1

    def test_seldom_while_rows_wait_for_a_worker(
        self, world: World, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They gather into one run, which takes one call."""
        monkeypatch.setattr(producer_module, "GATHER_S", 1.0)
        producer = start(world, replace(TIMINGS, poll_s=0.001))
        for key in (0, 1):  # the second finds that nobody has begun the first
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)
        for key in range(2, 6):
            world.write(key, full_name="x")
        assert {producer.arrivals.next() for _ in range(4)} == set("2345")
        assert len(producer.arrivals.runs) == 3

    def test_often_when_a_worker_is_free(
        self, world: World, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(producer_module, "GATHER_S", NEVER_S)
        producer = start(world, replace(TIMINGS, poll_s=OFTEN_S))
        for key in (0, 1):
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)
        world.write(2, full_name="x")
        for _, run in producer.arrivals.runs:
            world.carry_out(run[0])
        assert producer.arrivals.next() == "2"

    def test_to_find_rows_whose_locks_ended(self, world: World, start: Start) -> None:
        world.write(1, full_name="x")
        world.store.locks.acquire([1], "dead", 0.1)
        producer = start(world, replace(TIMINGS, poll_s=OFTEN_S, rewind_s=OFTEN_S))
        assert producer.arrivals.next() == "1"


@pytest.mark.parametrize("engine", ["server"], indirect=True)
class TestLiveQuery:
    def test_wakes_at_each_write(self, world: World, start: Start) -> None:
        live = ObservedConnection(world)
        producer = start(world, live=live)
        live.listening.get(timeout=PROMPT_S)
        for key in range(3):  # the first may have been seen at a look around; no other
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)

    def test_wakes_for_what_was_written_before_it_listened(
        self, world: World, start: Start
    ) -> None:
        class Late(ObservedConnection):
            def listen(self, table: str) -> UUID:
                world.write("before", full_name="x")
                return super().listen(table)

        producer = start(world, live=Late(world))
        assert producer.arrivals.next() == '"before"'

    def test_begins_again_when_its_connection_is_lost(self, world: World, start: Start) -> None:
        live = ObservedConnection(world)
        producer = start(world, live=live)
        live.listening.get(timeout=PROMPT_S)
        assert live.connection
        live.connection.close()
        world.write("missed", full_name="x")
        live.listening.get(timeout=PROMPT_S)
        assert producer.arrivals.next() == '"missed"'
        world.write("heard", full_name="x")
        assert producer.arrivals.next() == '"heard"'

    def test_is_silent_while_much_is_under_way(self, world: World, start: Start) -> None:
        live = ObservedConnection(world)
        producer = start(world, replace(TIMINGS, quiet_rows=0), live)
        first = live.listening.get(timeout=PROMPT_S)
        world.write("a", full_name="x")
        assert producer.arrivals.next() == '"a"'
        assert live.ended.get(timeout=PROMPT_S) == first
        world.carry_out(producer.arrivals.batches[0])  # its end rings
        assert live.listening.get(timeout=PROMPT_S) != first

    def test_that_cannot_be_opened_is_tried_again(self, world: World, start: Start) -> None:
        live = ObservedConnection(world)
        refusals = [StoreUnavailable("not yet")]

        class Refusing(ObservedConnection):
            def open(self) -> LiveConnection:
                if refusals:
                    raise refusals.pop()
                return live.open()

        producer = start(world, live=Refusing(world))
        live.listening.get(timeout=PROMPT_S)
        world.write(1, full_name="x")
        assert producer.arrivals.next() == "1"


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
class TestWithoutLiveQueries:
    def test_the_gateway_s_rows_are_found_by_polling(self, world: World, start: Start) -> None:
        live = ObservedConnection(world)
        producer = start(world, replace(TIMINGS, poll_s=OFTEN_S), live)
        for key in range(3):
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)
        assert live.listening.empty()
        assert live.connection
        eventually(lambda: live.connection is not None and live.connection.broken, "it gives up")


class TestAnErrorThatNobodyExpected:
    def test_is_outlived_and_named_without_its_words(
        self, world: World, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dispatch = Backlog.dispatch
        bugs = [ZeroDivisionError("text of a row"), OverflowError("text of a row")]

        def with_bugs(self: Backlog) -> Tick:
            if bugs:
                raise bugs.pop()
            return dispatch(self)

        monkeypatch.setattr(Backlog, "dispatch", with_bugs)
        with capture_logs() as logs:
            world.write(1, full_name="x")
            producer = start(world)
            assert producer.arrivals.next() == "1"
        named = [one for one in logs if one["event"] == "unexpected_error"]
        assert [one["error"] for one in named] == ["OverflowError", "ZeroDivisionError"]
        assert all(one["place"].startswith("test_producer.py:") for one in named)
        assert "text of a row" not in str(logs)

    def test_in_the_live_query_does_not_end_listening(self, world: World, start: Start) -> None:
        class Broken(ObservedConnection):
            bugs = 2

            def open(self) -> LiveConnection:
                if self.bugs:
                    self.bugs -= 1
                    raise ZeroDivisionError
                return super().open()

        live = Broken(world)
        producer = start(world, live=live)
        assert producer.led.wait(PROMPT_S)
        eventually(lambda: live.bugs == 0, "the connection is opened again")
