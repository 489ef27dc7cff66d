"""From pending rows to runs: claims, batches, and flow control."""

from __future__ import annotations

from collections import Counter

import pytest

from embed_star.models import Lane, key_text
from embed_star.produce.backlog import Tick
from tests.conftest import MakeWorld
from tests.support.world import World


class TestCutting:
    def test_batches_are_cut_by_rows_and_runs_by_batches(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=4, chord_batches=3)
        world.write_many(30)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 30
        sizes = [[len(batch.rows) for batch in run] for _, run in recorder.runs]
        assert sizes == [[4, 4, 4], [4, 4, 4], [4, 2]]
        assert sorted(recorder.keys) == sorted(map(str, range(30)))

    def test_batches_are_cut_by_tokens(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=100, batch_max_tokens=100)
        for key in range(6):
            world.write(key, full_name="x" * 120)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert [len(batch.rows) for batch in recorder.batches] == [2, 2, 2]

    def test_a_row_beyond_the_tokens_goes_alone(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=100, batch_max_tokens=100)
        for key in range(3):
            world.write(key, full_name="x" * 3000)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert [len(batch.rows) for batch in recorder.batches] == [1, 1, 1]

    def test_a_run_has_one_name_and_its_batches_theirs(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=2, chord_batches=2)
        world.write_many(6)
        backlog, recorder = world.backlog()
        backlog.dispatch()
        names = [{batch.run_id for batch in run} for _, run in recorder.runs]
        assert [len(one) for one in names] == [1, 1]
        assert not names[0] & names[1]
        assert len({batch.correlation_id for batch in recorder.batches}) == 3
        assert {batch.space for batch in recorder.batches} == {world.services.space.name}
        tokens = {
            key_text(row.key): batch.run_id for batch in recorder.batches for row in batch.rows
        }
        assert world.locks() == tokens

    def test_records_of_one_repo_go_together(self, world: World) -> None:
        for number in range(3):
            world.write("a", full_name=f"a{number}")
        world.write("b", full_name="b")
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 2
        (batch,) = recorder.batches
        records = {row.key: set(row.outbox) for row in batch.rows}
        assert {key: len(ids) for key, ids in records.items()} == {"a": 3, "b": 1}
        assert records["a"] | records["b"] == {entry.id for entry in world.outbox()}
        world.carry_out(batch)
        assert world.provider.paid == {"a2": 1, "b": 1}
        world.assert_current()

    def test_an_empty_outbox_dispatches_nothing(self, world: World) -> None:
        backlog, recorder = world.backlog()
        assert backlog.dispatch() == Tick(0, 0)
        assert recorder.runs == []


class TestLanes:
    def test_fresh_rows_go_before_a_backfill(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=5)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(5)], lane=1)
        world.write("fresh", full_name="fresh")
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 6
        assert [lane for lane, _ in recorder.runs] == [Lane.FRESH, Lane.BACKFILL]
        assert recorder.keys[0] == '"fresh"'

    def test_a_full_backfill_leaves_room_for_fresh_rows(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=5, chord_batches=2, max_in_flight_rows=20)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(50)], lane=1)
        backlog, recorder = world.backlog()
        assert backlog.dispatch() == Tick(20, 20)
        assert backlog.dispatch() == Tick(0, 20)
        world.write("fresh", full_name="fresh")
        assert backlog.dispatch() == Tick(1, 21, gather=True)
        assert recorder.keys[-1] == '"fresh"'

    def test_fresh_rows_are_bounded_too(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=5, chord_batches=2, max_in_flight_rows=20)
        world.write_many(100)
        backlog, recorder = world.backlog()
        for _ in range(3):
            backlog.rewind()
            backlog.dispatch()
        assert len(recorder.keys) <= 20 + 10
        assert world.services.ledger.counts().in_flight == len(recorder.keys)


class TestInFlight:
    def test_is_never_more_than_a_run_beyond_the_limit(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=3, chord_batches=2, max_in_flight_rows=20)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(60)], lane=1)
        world.query("INSERT INTO repo $rows", rows=[{"id": f"f{n}", "n": n} for n in range(60)])
        backlog, recorder = world.backlog()
        done = 0
        for _ in range(100):
            if not world.outbox():
                break
            backlog.rewind()
            backlog.dispatch()
            assert world.services.ledger.counts().in_flight <= 20 + 6
            for _, run in recorder.runs[done : done + 2]:  # the workers are slower
                world.save(run[0], [one for batch in run for one in world.embed(batch)])
            done = min(done + 2, len(recorder.runs))
        assert max(Counter(recorder.keys).values()) == 1
        world.assert_current()

    def test_rows_waiting_are_bounded_until_the_throughput_is_known(
        self, make_world: MakeWorld
    ) -> None:
        world = make_world(batch_size=2, chord_batches=2, max_in_flight_rows=1000)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(40)], lane=1)
        backlog, recorder = world.backlog()
        assert backlog.dispatch().dispatched == 8  # two runs
        assert backlog.dispatch().dispatched == 0
        world.services.embedder.started(recorder.batches[0], "one")
        assert backlog.dispatch().dispatched == 2

    def test_counts_rows_that_are_being_worked_on(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=5, chord_batches=2, max_in_flight_rows=20)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(50)], lane=1)
        backlog, recorder = world.backlog()
        assert backlog.dispatch() == Tick(20, 20)
        for number, batch in enumerate(recorder.batches):
            world.services.embedder.started(batch, str(number))
        assert world.services.ledger.counts().queued == 0
        assert backlog.dispatch() == Tick(0, 20)

    @pytest.mark.parametrize("lane", Lane)
    def test_a_limit_below_a_batch_does_not_stop_a_lane(
        self, make_world: MakeWorld, lane: Lane
    ) -> None:
        world = make_world(batch_size=100, max_in_flight_rows=10)
        world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(15)], lane=lane)
        world.settle()
        world.assert_current()
