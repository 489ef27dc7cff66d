"""Claims: nothing goes twice, what was lost is given back, what was missed is found."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from embed_star.claims.claims import Claims
from embed_star.claims.memory import MemoryLocks
from embed_star.claims.redis_locks import LockLayer, RedisLocks
from embed_star.coordination import client as connection
from embed_star.errors import RedisUnavailable, StoreUnavailable
from embed_star.models import Key, Lane, Status
from embed_star.produce.backlog import Backlog
from embed_star.produce.lanes import OVERLAP_MS
from embed_star.services import Services
from embed_star.store.tables.locks import LockTable
from embed_star.store.tables.outbox import ulid_of_ms
from tests.conftest import MakeWorld
from tests.support.servers import eventually
from tests.support.world import Recorder, World

NOBODY = "redis://127.0.0.1:1/0"


def keys(*numbers: int) -> list[str]:
    return [str(number) for number in numbers]


class TestNothingGoesTwice:
    def test_what_is_under_way_is_left_alone(self, world: World) -> None:
        world.write_many(5)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 5
        backlog.rewind()
        assert backlog.dispatch().dispatched == 0
        assert len(recorder.runs) == 1

    def test_two_backlogs_at_once_claim_each_row_once(self, make_world: MakeWorld) -> None:
        one, two = make_world(batch_size=7), make_world(batch_size=7)
        one.write_many(200)
        start = threading.Barrier(2)

        def dispatch(world: World) -> list[str]:
            backlog, recorder = world.backlog()
            start.wait()
            for _ in range(3):
                backlog.dispatch()
                backlog.rewind()
            return recorder.keys

        with ThreadPoolExecutor(2) as threads:
            dispatched = [key for keys in threads.map(dispatch, [one, two]) for key in keys]
        assert len(set(dispatched)) == len(dispatched)
        assert set(one.locks()) == set(dispatched)
        backlog, recorder = one.backlog()
        backlog.dispatch()
        assert sorted(dispatched + recorder.keys) == sorted(keys(*range(200)))

    def test_a_redis_wiped_in_between_makes_no_second_run(self, make_world: MakeWorld) -> None:
        world = make_world(max_in_flight_rows=1000)
        world.write_many(20)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 20
        world.services.redis.flushall()
        backlog.rewind()
        world.write("new", full_name="new")
        assert backlog.dispatch().dispatched == 1
        assert max(Counter(recorder.keys).values()) == 1

    def test_the_database_s_locks_hold_where_redis_knows_nothing(self, world: World) -> None:
        world.write_many(10)
        one, two = (_with_locks(world, MemoryLocks()) for _ in range(2))
        assert one[0].dispatch().dispatched == 10
        assert two[0].dispatch().dispatched == 0
        assert len(one[1].keys) == 10

    def test_without_redis_nothing_is_claimed(self, world: World) -> None:
        """It could not be enqueued, and would wait for its locks to end."""
        world.write_many(10)
        with connection.connect(NOBODY, 0.5) as nowhere:
            backlog, recorder = _with_locks(world, RedisLocks(nowhere, "x:"))
            with pytest.raises(RedisUnavailable):
                backlog.dispatch()
        assert (recorder.keys, world.locks()) == ([], {})

    def test_a_row_lost_in_the_database_is_free_in_redis(self, world: World) -> None:
        world.write_many(3)
        world.store.locks.acquire([1], "another", 60.0)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 2
        assert sorted(recorder.keys) == keys(0, 2)
        assert world.services.locks.acquire([0, 1, 2], "x", 60.0) == [False, True, False]

    def test_locks_in_redis_alone_keep_a_row_away_from_the_database(self, world: World) -> None:
        world.write_many(3)
        world.services.locks.acquire([1], "another", 60.0)
        backlog, _ = world.backlog()
        assert backlog.dispatch().dispatched == 2
        assert set(world.locks()) == {"0", "2"}


class TestGivingBack:
    @pytest.mark.parametrize("error", [RedisUnavailable("gone"), RuntimeError("boom")], ids=repr)
    def test_a_dispatch_that_fails_releases_its_rows(self, world: World, error: Exception) -> None:
        world.write_many(5)
        backlog, recorder = world.backlog()
        recorder.errors = [error]
        with pytest.raises(type(error)):
            backlog.dispatch()
        assert world.locks() == {}
        assert world.services.ledger.counts().in_flight == 0
        assert backlog.dispatch().dispatched == 5  # at once, from where it stood
        assert sorted(recorder.keys) == keys(*range(5))

    def test_a_dispatch_that_failed_and_was_enqueued_all_the_same_is_not_paid_twice(
        self, world: World
    ) -> None:
        world.write_many(3)
        backlog, recorder = world.backlog()

        class Torn(Recorder):
            def dispatch(self, batches: Any, lane: Lane) -> None:
                super().dispatch(batches, lane)
                raise RedisUnavailable("no answer")

        torn = Torn()
        with pytest.raises(RedisUnavailable):
            world.services.backlog(torn).dispatch()
        assert world.carry_out(torn.batches[0]) == {Status.LOST: 3}
        assert backlog.dispatch().dispatched == 3
        world.carry_out(recorder.batches[0])
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_a_claim_that_loses_the_database_is_released_in_redis(self, world: World) -> None:
        world.write_many(3)
        lost = Services(world.settings.model_copy(update={"db_url": "ws://127.0.0.1:1"}))
        recorder = Recorder()
        backlog = _backlog(world, recorder, records=lost.store.locks)
        with pytest.raises(StoreUnavailable):
            backlog.dispatch()
        assert recorder.runs == []
        assert world.services.locks.acquire([0, 1, 2], "x", 60.0) == [True] * 3

    def test_without_redis_nothing_is_claimed(self, make_world: MakeWorld) -> None:
        world = make_world(redis_url=NOBODY, redis_timeout_s=0.5)
        world.write_many(3)
        backlog, recorder = world.backlog()
        with pytest.raises(RedisUnavailable):
            backlog.dispatch()
        assert (recorder.runs, world.locks()) == ([], {})

    @pytest.mark.parametrize("layer", ["redis", "database"])
    def test_a_claim_whose_answer_was_lost_is_released(self, world: World, layer: str) -> None:
        """The rows are locked for a run that there is not: free at the next look."""

        class DeafTable(LockTable):
            def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
                return _unheard(super().acquire(keys, token, ttl_s), lost)

        class DeafRedis(RedisLocks):
            def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
                return _unheard(super().acquire(keys, token, ttl_s), lost)

        lost: list[Exception] = [
            RedisUnavailable("no answer") if layer == "redis" else StoreUnavailable("no answer")
        ]
        services, recorder = world.services, Recorder()
        deaf = {
            "redis": {"redis": DeafRedis(services.redis, services.redis_prefix)},
            "database": {"records": DeafTable(world.store.database)},
        }[layer]
        backlog = _backlog(world, recorder, **deaf)
        world.write_many(5)
        with pytest.raises(type(lost[0])):
            backlog.dispatch()
        assert backlog.dispatch().dispatched == 5
        assert sorted(recorder.keys) == keys(*range(5))


class TestRewind:
    def test_finds_rows_whose_locks_ended(self, make_world: MakeWorld) -> None:
        world = make_world()
        world.write_many(5)
        short = _backlog(world, lost := Recorder(), ttl_s=0.2)
        assert short.dispatch().dispatched == 5  # and nobody works on it
        assert short.dispatch().dispatched == 0
        backlog, recorder = world.backlog()

        def found_all() -> bool:
            backlog.rewind()
            backlog.dispatch()
            return len(recorder.keys) == 5

        eventually(found_all, "expired rows are dispatched again")
        for batch in recorder.batches:
            world.carry_out(batch)
        assert world.carry_out(lost.batches[0]) == {Status.LOST: 5}
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_is_what_finds_a_record_that_was_committed_late(self, world: World) -> None:
        world.write(1, full_name="x")
        backlog, recorder = world.backlog()
        backlog.dispatch()
        with world.unannounced():
            world.write("late", full_name="late")
        world.query(
            "CREATE embedding_outbox SET id = [0, $ulid], repo = repo:late, size = 4",
            ulid="0" * 26,
        )
        assert backlog.dispatch().dispatched == 0
        backlog.rewind()
        assert backlog.dispatch().dispatched == 1
        assert recorder.keys == ["1", '"late"']

    def test_is_not_needed_for_what_was_committed_a_little_late(self, world: World) -> None:
        world.write(1, full_name="x")
        read_at_ms = round(time.time() * 1000)
        recorder = Recorder()
        backlog = _backlog(world, recorder, wall_clock=lambda: read_at_ms / 1000)
        backlog.dispatch()
        with world.unannounced():
            world.write("late", full_name="late")
        world.query(
            "CREATE embedding_outbox SET id = [0, $ulid], repo = repo:late, size = 4",
            ulid=ulid_of_ms(read_at_ms - OVERLAP_MS + 1) + "0" * 16,
        )
        assert backlog.dispatch().dispatched == 1
        assert recorder.keys == ["1", '"late"']

    def test_is_not_needed_for_what_is_new(self, world: World) -> None:
        backlog, recorder = world.backlog()
        for number in range(5):
            world.write(number, full_name="x")
            assert backlog.dispatch().dispatched == 1
        assert recorder.keys == keys(*range(5))


def _unheard(answer: list[bool], lost: list[Exception]) -> list[bool]:
    """The answer, unless another is to be lost."""
    if lost:
        raise lost.pop()
    return answer


def _backlog(world: World, recorder: Recorder, **changes: Any) -> Backlog:
    """As `Services.backlog` makes it, with a layer of locks, the clock or the TTL exchanged."""
    backlog = world.services.backlog(recorder)
    if wall_clock := changes.pop("wall_clock", None):
        backlog._lanes._wall_clock = wall_clock
    if changes:
        services = world.services
        defaults = {
            "redis": services.locks,
            "records": services.store.locks,
            "ttl_s": services.claims.ttl_s,
            "renew_before_s": services.claims.renew_before_s,
        }
        backlog._runs._claims = Claims(**(defaults | changes))
    return backlog


def _with_locks(world: World, locks: LockLayer) -> tuple[Backlog, Recorder]:
    recorder = Recorder()
    return _backlog(world, recorder, redis=locks), recorder
