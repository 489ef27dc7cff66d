"""The Backlog: which rows are claimed, how they are batched, and how many at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce

import pytest

from embed_star.errors import ProviderAuthError, ProviderPaused, RedisUnavailable, StoreUnavailable
from embed_star.models import Key, Lane, key_text
from tests.support.memory_services import LOCK_TTL_S, THRESHOLDS, MemoryServices
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld


def keys(*numbers: int) -> list[str]:
    return [str(number) for number in numbers]


def backfill(world: MemoryWorld, rows: int) -> None:
    world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(rows)], lane=1)


class TestBatches:
    def test_are_of_so_many_rows_and_runs_of_so_many_batches(
        self, make_world: MakeMemoryWorld
    ) -> None:
        world = make_world(batch_size=4, chord_batches=3)
        world.write_many(30)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 30
        sizes = [[len(batch.rows) for batch in run] for _, run in recorder.runs]
        assert sizes == [[4, 4, 4], [4, 4, 4], [4, 2]]
        assert recorder.keys == keys(*range(30))

    def test_are_of_so_many_tokens(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_max_tokens=100)
        for key in range(6):
            world.write(key, full_name="x" * 120)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert [len(batch.rows) for batch in recorder.batches] == [2, 2, 2]

    def test_are_of_one_row_that_has_more_tokens(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_max_tokens=100)
        for key in range(3):
            world.write(key, full_name="x" * 3000)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert [len(batch.rows) for batch in recorder.batches] == [1, 1, 1]

    def test_carry_the_token_of_their_locks(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=2, chord_batches=2)
        world.write_many(6)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        names = [{batch.run_id for batch in run} for _, run in recorder.runs]
        assert [len(one) for one in names] == [1, 1]
        assert not names[0] & names[1]
        assert len({batch.correlation_id for batch in recorder.batches}) == 3
        tokens = {
            key_text(row.key): batch.run_id for batch in recorder.batches for row in batch.rows
        }
        assert world.locks() == tokens

    def test_have_all_records_of_a_repo_in_one_row(self, world: MemoryWorld) -> None:
        for number in range(3):
            world.write("a", full_name=f"a{number}")
        world.write("b", full_name="b")
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 2
        (batch,) = recorder.batches
        assert {row.key: len(row.outbox) for row in batch.rows} == {"a": 3, "b": 1}
        world.carry_out(batch)
        assert world.provider.paid == {"a2": 1, "b": 1}
        world.assert_current()


class TestLanes:
    def test_fresh_rows_go_before_a_backfill(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=5)
        backfill(world, 5)
        world.write("fresh", full_name="fresh")
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 6
        assert [lane for lane, _ in recorder.runs] == [Lane.FRESH, Lane.BACKFILL]
        assert recorder.keys[0] == '"fresh"'

    def test_a_full_backfill_leaves_room_for_fresh_rows(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=5, chord_batches=2, max_in_flight_rows=20)
        backfill(world, 50)
        backlog, recorder = world.backlog()
        assert backlog.dispatch()[:2] == (20, 20)
        assert backlog.dispatch()[:2] == (0, 20)
        world.write("fresh", full_name="fresh")
        assert backlog.dispatch()[:2] == (1, 21)
        assert recorder.keys[-1] == '"fresh"'

    def test_fresh_rows_are_bounded_too(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=5, chord_batches=2, max_in_flight_rows=20)
        world.write_many(100)
        backlog, recorder = world.backlog()
        for _ in range(3):
            backlog.rewind()
            backlog.dispatch()
        assert len(recorder.keys) <= 20 + 10
        assert world.services.ledger.counts().in_flight == len(recorder.keys)

    def test_are_read_to_their_end_page_by_page(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=100, chord_batches=20)
        world.write_many(1300)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 1300
        assert recorder.keys == keys(*range(1300))

    def test_are_read_on_from_where_they_were(self, world: MemoryWorld) -> None:
        world.write_many(2)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        world.clock.pass_s(5.0)
        world.write("new", full_name="new")
        assert backlog.dispatch().dispatched == 1
        assert recorder.keys[-1] == '"new"'


class TestNothingGoesTwice:
    def test_rows_under_way_are_left_alone(self, world: MemoryWorld) -> None:
        world.write_many(5)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 5
        backlog.rewind()
        assert backlog.dispatch().dispatched == 0
        assert len(recorder.runs) == 1

    def test_rows_of_another_process_are_left_alone(self, make_world: MakeMemoryWorld) -> None:
        one, other = make_world(), make_world()
        one.write_many(5)
        assert one.backlog()[0].dispatch().dispatched == 5
        assert other.backlog()[0].dispatch().dispatched == 0

    def test_rows_whose_locks_ended_are_found_after_a_rewind(self, world: MemoryWorld) -> None:
        world.write_many(3)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        world.clock.pass_s(3 * LOCK_TTL_S)
        backlog.rewind()
        assert backlog.dispatch().dispatched == 3
        assert recorder.keys == keys(0, 1, 2, 0, 1, 2)


class TestGivingBack:
    @pytest.mark.parametrize("error", [RedisUnavailable("gone"), RuntimeError("boom")], ids=repr)
    def test_rows_of_a_failed_dispatch_are_free_at_once(
        self, world: MemoryWorld, error: Exception
    ) -> None:
        world.write_many(5)
        backlog, recorder = world.backlog()
        recorder.errors = [error]
        with pytest.raises(type(error)):
            backlog.dispatch()
        assert world.locks() == {}
        assert world.services.ledger.counts().in_flight == 0
        assert backlog.dispatch().dispatched == 5
        assert recorder.keys == keys(*range(5))

    def test_rows_of_a_claim_whose_answer_was_lost_are_free_at_the_next_look(
        self, world: MemoryWorld
    ) -> None:
        world.write_many(3)
        backlog, _ = world.backlog()
        acquire = world.store.locks.acquire

        def lost(*arguments: object) -> list[bool]:
            acquire(*arguments)  # type: ignore[arg-type]
            world.store.locks.acquire = acquire  # type: ignore[method-assign]
            raise StoreUnavailable("no answer")

        world.store.locks.acquire = lost  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            backlog.dispatch()
        assert len(world.locks()) == 3
        assert backlog.dispatch().dispatched == 3


class TestNothingIsClaimed:
    def test_of_an_empty_outbox(self, world: MemoryWorld) -> None:
        backlog, recorder = world.backlog()
        assert backlog.dispatch()[:3] == (0, 0, 0.0)
        assert recorder.runs == []

    def test_while_the_provider_is_paused(self, world: MemoryWorld) -> None:
        world.write_many(5)
        pause(world)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().paused_s == THRESHOLDS.open_s
        assert (recorder.runs, world.locks()) == ([], {})

    def test_by_a_process_of_a_retired_space(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write_many(3)
        new = make_world(embedding_model="another")
        backlog, recorder = old.backlog()
        assert backlog.is_retired()
        assert backlog.dispatch().dispatched == 0
        assert recorder.runs == []
        new.settle()
        new.assert_current()

    def test_by_a_process_that_ends(self, world: MemoryWorld) -> None:
        world.write_many(3)
        world.begin_shutdown()
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 0
        assert (recorder.runs, world.locks()) == ([], {})


def pause(world: MemoryWorld) -> None:
    world.provider.down = ProviderAuthError("401")
    with pytest.raises(ProviderPaused):
        world.services.call("one")
    world.provider.down = None


def test_one_batch_goes_out_to_try_a_paused_provider(make_world: MakeMemoryWorld) -> None:
    world = make_world(batch_size=2)
    world.write_many(9)
    pause(world)
    world.clock.pass_s(THRESHOLDS.open_s)
    backlog, recorder = world.backlog()
    assert backlog.dispatch().dispatched == 2
    assert backlog.dispatch().dispatched == 0
    world.carry_out(recorder.batches[0])
    assert backlog.dispatch().dispatched == 7
    assert sorted(recorder.keys) == keys(*range(9))


@pytest.mark.parametrize("source", ["rate_limiter.state", "store.space_watch.is_retired"])
def test_rows_given_back_in_a_pause_are_found_though_a_look_failed_at_its_end(
    make_world: MakeMemoryWorld, source: str
) -> None:
    world = make_world(batch_size=2)
    world.write_many(3)
    backlog, recorder = world.backlog()
    backlog.dispatch()
    run_id = recorder.batches[0].run_id
    world.services.ledger.start(run_id, 3, "message", LOCK_TTL_S)
    pause(world)
    world.clock.pass_s(THRESHOLDS.open_s)
    assert backlog.dispatch().dispatched == 0  # a worker has them: they lie behind now
    world.services.claims.release([0, 1, 2], run_id)
    for _ in range(THRESHOLDS.successes_to_close):
        world.services.call("one")
    fail_once(world.services, source)
    with pytest.raises((RedisUnavailable, StoreUnavailable)):
        backlog.dispatch()
    assert backlog.dispatch().dispatched == 3


def fail_once(services: MemoryServices, source: str) -> None:
    """Let the method that `source` names raise at its next call."""
    *path, method = source.split(".")
    owner = reduce(getattr, path, services)
    works = getattr(owner, method)

    def fail(**_: object) -> None:
        setattr(owner, method, works)
        raise RedisUnavailable("no answer") if method == "state" else StoreUnavailable("no answer")

    setattr(owner, method, fail)


def test_a_row_whose_key_no_message_carries_is_noted_and_hides_no_other(
    world: MemoryWorld,
) -> None:
    unusable: Key = ["a", datetime(2024, 1, 1, tzinfo=UTC)]
    world.write(unusable, full_name="x")
    world.write(1, full_name="x")
    backlog, recorder = world.backlog()
    assert backlog.dispatch().dispatched == 1
    assert recorder.keys == ["1"]
    assert world.store.failures.by_reason() == {"key_type": 1}
    world.delete(unusable)
    backlog.rewind()
    backlog.dispatch()
    assert world.store.failures.by_reason() == {}
