"""The watching loop on real servers: what wakes it, who leads, what it waits out.

Where a test says NEVER_S, nothing but what it is about can have woken the producer.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from embed_star.errors import EmbedStarError, RedisUnavailable, StoreUnavailable
from embed_star.guards.locks import MemoryLocks
from embed_star.models import Batch, Lane, key_text
from embed_star.producer import LEASE_KEY, Doorbell, Lease, Producer, Rhythm
from embed_star.services import target_of
from embed_star.store.connection import Connection
from tests.conftest import MakeWorld
from tests.support.servers import PROMPT_S, eventually
from tests.support.world import Recorder, World

NEVER_S = 3600.0
OFTEN_S = 0.05
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

RHYTHM = Rhythm(poll_s=NEVER_S, lease_s=NEVER_S, rewind_s=NEVER_S, quiet_rows=1000)


class Arrivals(Recorder):
    """A dispatcher that tells of each row."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: queue.Queue[str] = queue.Queue()

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        super().dispatch(batches, lane)
        for batch in batches:
            for row in batch.rows:
                self._keys.put(key_text(row.key))

    def next(self) -> str:
        return self._keys.get(timeout=PROMPT_S)


class Bell:
    """A real connection, and events for what is done with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.connection: Connection | None = None
        self.listening: queue.Queue[UUID] = queue.Queue()
        self.ended: queue.Queue[UUID] = queue.Queue()

    def open(self) -> Doorbell:
        self.connection = Connection(target_of(self._world.settings))
        return self

    def listen(self, table: str) -> UUID:
        assert self.connection
        live_id = self.connection.listen(table)
        self.listening.put(live_id)
        return live_id

    def unlisten(self, live_id: UUID) -> None:
        assert self.connection
        self.connection.unlisten(live_id)
        self.ended.put(live_id)

    def next_notification(self, timeout_s: float) -> bool:
        assert self.connection
        return self.connection.next_notification(timeout_s)

    def close(self) -> None:
        assert self.connection
        self.connection.close()


class Running:
    """A producer in a thread."""

    def __init__(self, world: World, rhythm: Rhythm, owner: str, bell: Bell | None) -> None:
        self.arrivals = Arrivals()
        self.led = threading.Event()
        self.producer = Producer(
            backlog=world.services.backlog(self.arrivals),
            lease=Lease(world.services.locks, owner, rhythm.lease_s),
            runs=world.services.runs,
            rhythm=rhythm,
            open_doorbell=bell.open if bell else None,
            on_lead=self.led.set,
        )
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.producer.run()
        except BaseException as error:  # noqa: BLE001 - shown in `stop`
            self._failed.append(error)

    def stop(self) -> None:
        self.producer.stop()
        self._thread.join(PROMPT_S)
        assert not self._thread.is_alive()
        assert self._failed == []


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a producer; all are stopped at the end, and none may have died."""
    running: list[Running] = []
    owners = itertools.count()

    def begin(world: World, rhythm: Rhythm = RHYTHM, bell: Bell | None = None) -> Running:
        running.append(Running(world, rhythm, f"producer {next(owners)}", bell))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


class TestWakes:
    def test_at_the_poll(self, world: World, start: Start) -> None:
        producer = start(world, replace(RHYTHM, poll_s=OFTEN_S))
        for key in range(3):
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)

    def test_when_a_run_is_finished(self, world: World, start: Start) -> None:
        producer = start(world)
        assert producer.led.wait(PROMPT_S)
        channel = world.services.runs.channel
        eventually(lambda: world.services.redis.pubsub_numsub(channel)[0][1] == 1, "it listens")
        for key in range(3):
            world.write(key, full_name="x")
            world.services.runs.wake()
            assert producer.arrivals.next() == str(key)

    def test_and_goes_on_with_what_there_was_no_room_for(
        self, make_world: MakeWorld, start: Start
    ) -> None:
        world = make_world(batch_size=2, chord_batches=1, max_in_flight_rows=2)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(7)], lane=1)
        producer = start(world)
        done: set[str] = set()
        channel = world.services.runs.channel
        eventually(lambda: world.services.redis.pubsub_numsub(channel)[0][1] == 1, "it listens")
        while len(done) < 7:
            done.add(producer.arrivals.next())
            for _, run in producer.arrivals.runs:
                world.carry_out(run[0])
        assert world.vectors().keys() == done
        assert max(world.provider.paid.values()) == 1

    def test_to_find_rows_whose_locks_ended(self, world: World, start: Start) -> None:
        world.write(1, full_name="x")
        world.store.locks.acquire([1], "dead", 0.1)
        producer = start(world, replace(RHYTHM, poll_s=OFTEN_S, rewind_s=OFTEN_S))
        assert producer.arrivals.next() == "1"


@pytest.mark.parametrize("engine", ["server"], indirect=True)
class TestTheDoorbell:
    def test_wakes_at_each_write(self, world: World, start: Start) -> None:
        bell = Bell(world)
        producer = start(world, bell=bell)
        bell.listening.get(timeout=PROMPT_S)
        for key in range(3):  # the first may have been seen at a look around; no other
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)

    def test_wakes_for_what_was_written_before_it_listened(
        self, world: World, start: Start
    ) -> None:
        class Late(Bell):
            def listen(self, table: str) -> UUID:
                world.write("before", full_name="x")
                return super().listen(table)

        producer = start(world, bell=Late(world))
        assert producer.arrivals.next() == '"before"'

    def test_is_hung_up_again_when_its_connection_is_lost(self, world: World, start: Start) -> None:
        bell = Bell(world)
        producer = start(world, bell=bell)
        bell.listening.get(timeout=PROMPT_S)
        assert bell.connection
        bell.connection.close()
        world.write("missed", full_name="x")
        bell.listening.get(timeout=PROMPT_S)
        assert producer.arrivals.next() == '"missed"'
        world.write("heard", full_name="x")
        assert producer.arrivals.next() == '"heard"'

    def test_is_silent_while_much_is_under_way(self, world: World, start: Start) -> None:
        bell = Bell(world)
        producer = start(world, replace(RHYTHM, quiet_rows=0), bell)
        first = bell.listening.get(timeout=PROMPT_S)
        world.write("a", full_name="x")
        assert producer.arrivals.next() == '"a"'
        assert bell.ended.get(timeout=PROMPT_S) == first
        world.carry_out(producer.arrivals.batches[0])  # its end rings
        assert bell.listening.get(timeout=PROMPT_S) != first

    def test_that_cannot_be_had_is_asked_for_again(self, world: World, start: Start) -> None:
        bell = Bell(world)
        refusals = [StoreUnavailable("not yet")]

        class Refusing(Bell):
            def open(self) -> Doorbell:
                if refusals:
                    raise refusals.pop()
                return bell.open()

        producer = start(world, bell=Refusing(world))
        bell.listening.get(timeout=PROMPT_S)
        world.write(1, full_name="x")
        assert producer.arrivals.next() == "1"


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
class TestWithoutLiveQueries:
    def test_the_gateway_s_rows_are_found_by_polling(self, world: World, start: Start) -> None:
        bell = Bell(world)
        producer = start(world, replace(RHYTHM, poll_s=OFTEN_S), bell)
        for key in range(3):
            world.write(key, full_name="x")
            assert producer.arrivals.next() == str(key)
        assert bell.listening.empty()
        assert bell.connection
        eventually(lambda: bell.connection is not None and bell.connection.broken, "it gives up")


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)  # it is about Redis
class TestLeading:
    BRISK = replace(RHYTHM, poll_s=OFTEN_S, lease_s=1.0)

    def test_one_leads_and_another_takes_over_when_it_stops(
        self, make_world: MakeWorld, start: Start
    ) -> None:
        world = make_world()
        leader = start(world, self.BRISK)
        assert leader.led.wait(PROMPT_S)
        standby = start(make_world(), self.BRISK)
        for key in range(3):
            world.write(key, full_name="x")
            assert leader.arrivals.next() == str(key)
        assert not standby.led.is_set()
        leader.stop()
        world.write("next", full_name="x")
        assert standby.arrivals.next() == '"next"'
        assert standby.led.is_set()
        assert standby.arrivals.keys == ['"next"']

    def test_a_dead_leader_is_replaced(self, world: World, start: Start) -> None:
        world.services.locks.acquire([LEASE_KEY], "killed", 0.5)
        world.write(1, full_name="x")
        producer = start(world, self.BRISK)
        assert producer.arrivals.next() == "1"

    def test_stopping_gives_the_lease_up_at_once(self, world: World, start: Start) -> None:
        producer = start(world)
        assert producer.led.wait(PROMPT_S)
        producer.stop()
        assert world.services.locks.acquire([LEASE_KEY], "next", 1.0) == [True]

    def test_a_leader_that_polls_seldom_keeps_its_lease(self, world: World, start: Start) -> None:
        producer = start(world, replace(RHYTHM, lease_s=0.6))
        assert producer.led.wait(PROMPT_S)
        locks, name = world.services.locks, f'{world.services.redis_prefix}lock:"{LEASE_KEY}"'
        renewed = 0
        last = world.services.redis.pttl(name)

        def renewed_often() -> bool:
            nonlocal renewed, last
            left: Any = world.services.redis.pttl(name)
            assert left > 0, "the lease ended under its leader"
            renewed += left > last
            last = left
            return renewed >= 4

        eventually(renewed_often, "the lease is renewed")
        assert locks.acquire([LEASE_KEY], "other", 1.0) == [False]

    @pytest.mark.parametrize(
        "error", [RedisUnavailable("gone"), StoreUnavailable("gone")], ids=repr
    )
    def test_outages_are_waited_out(
        self, world: World, start: Start, error: EmbedStarError
    ) -> None:
        world.write(1, full_name="x")
        world.services.locks.acquire([LEASE_KEY], "keeps it waiting", NEVER_S)
        producer = start(world, self.BRISK)
        producer.arrivals.errors = [error, error]
        world.services.locks.release([LEASE_KEY], "keeps it waiting")
        assert producer.arrivals.next() == "1"
        assert producer.arrivals.errors == []


class TestLease:
    def test_belongs_to_one(self) -> None:
        locks = MemoryLocks()
        one, other = Lease(locks, "one", 60.0), Lease(locks, "other", 60.0)
        assert one.hold()
        assert not other.hold()
        assert one.hold()
        one.give_up()
        assert other.hold()
        assert not one.hold()

    def test_giving_up_another_s_changes_nothing(self) -> None:
        locks = MemoryLocks()
        one, other = Lease(locks, "one", 60.0), Lease(locks, "other", 60.0)
        assert one.hold()
        other.give_up()
        assert not other.hold()

    def test_is_taken_again_when_redis_forgot_it(self) -> None:
        locks = MemoryLocks(itertools.count(0.0, 0.01).__next__)
        lease = Lease(locks, "one", 1e-9)  # asks each time
        assert lease.hold()
        locks.release([LEASE_KEY], "one")
        assert lease.hold()

    def test_a_third_of_it_is_not_asked_about(self) -> None:
        asked: list[str] = []

        class Counting(MemoryLocks):
            def extend(self, keys: Any, token: str, ttl_s: float) -> list[bool]:
                asked.append(token)
                return super().extend(keys, token, ttl_s)

        lease = Lease(Counting(), "one", 60.0)
        for _ in range(5):
            assert lease.hold()
        assert asked == ["one"]
