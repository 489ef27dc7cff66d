"""The Storer: the bulk write of a run, and what came in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embed_star.embed.text import text_hash
from embed_star.errors import AnotherSpace
from embed_star.models import Lane, Outcome, Status
from embed_star.write.storer import GONE_S
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld

CACHED, EMBEDDED, FAILED = Status.CACHED, Status.EMBEDDED, Status.FAILED
DEFERRED, GONE, LOST = Status.DEFERRED, Status.GONE, Status.LOST


class TestAWrite:
    def test_ends_the_work_at_its_rows(self, world: MemoryWorld) -> None:
        world.write_many(3)
        assert world.carry_out(world.claim()) == {EMBEDDED: 3}
        assert world.services.locks.acquire([0, 1, 2], "next", 60.0) == [True] * 3
        world.assert_current()

    def test_of_a_deleted_row_removes_its_vector(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        world.settle()
        world.delete(1)
        assert world.carry_out(world.claim()) == {GONE: 1}
        assert world.vectors() == {}
        world.assert_current()

    def test_of_a_refused_row_removes_the_vector_of_its_old_text(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="good")
        world.settle()
        world.write(1, full_name="poison")
        world.settle()
        assert world.vectors() == {}
        world.assert_current()
        world.write(1, full_name="good")
        assert world.carry_out(world.claim()) == {CACHED: 1}
        assert world.failures() == {}
        world.assert_current()

    def test_of_more_rows_than_one_transaction_takes(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(batch_size=500)
        world.write_many(450)
        assert world.carry_out(world.claim()) == {EMBEDDED: 450}
        world.assert_current()

    def test_is_counted_in_the_ledger(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch, ledger = world.claim(), world.services.ledger
        assert (ledger.counts().in_flight, ledger.counts().queued) == (3, 3)
        world.carry_out(batch)
        counts = ledger.counts()
        assert (counts.in_flight, counts.queued, counts.finished_total) == (0, 0, 3)
        assert ledger.totals() == {"embedded": 3, "finished": 3}

    def test_may_be_another_process_s(self, make_world: MakeMemoryWorld) -> None:
        one, other = make_world(), make_world()
        one.write_many(3)
        batch = one.claim()
        assert other.save(batch, one.embed(batch)) == {EMBEDDED: 3}
        assert other.provider.calls == []
        one.assert_current()


class TestTwiceOrLate:
    def test_a_second_time_changes_nothing(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.save(batch, outcomes)
        before = world.vectors()
        assert world.save(batch, outcomes) == {LOST: 3}
        assert world.vectors() == before

    def test_rows_lost_meanwhile_are_left_and_the_rest_is_written(self, world: MemoryWorld) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch, 1, 2)
        world.store.locks.acquire([1], "another", 60.0)
        assert world.save(batch, outcomes) == {EMBEDDED: 2, LOST: 2}
        assert set(world.vectors()) == {"0", "3"}
        assert world.locks() == {"1": "another"}
        assert {entry.key for entry in world.outbox()} == {1, 2}

    def test_a_run_that_lost_all_its_locks_writes_nothing(self, world: MemoryWorld) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch)
        assert world.save(batch, outcomes) == {LOST: 4}
        assert world.vectors() == {}
        assert len(world.outbox()) == 4

    def test_a_late_run_does_not_undo_a_newer_one(self, world: MemoryWorld) -> None:
        world.write(1, full_name="old")
        late = world.claim()
        outcomes = world.embed(late)
        world.lose(late)
        world.write(1, full_name="new")
        world.settle()
        assert world.save(late, outcomes) == {LOST: 1}
        assert world.vectors()["1"]["text_hash"] == text_hash("new")
        world.assert_current()

    def test_vectors_that_the_cache_forgot_leave_their_rows_pending(
        self, make_world: MakeMemoryWorld
    ) -> None:
        world = make_world(cache_local_entries=0)
        world.write_many(3)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.backends.vectors.clear()
        assert world.save(batch, outcomes) == {DEFERRED: 3}
        left_s = [state.lock_left_s for state in world.store.repos.load([0, 1, 2], batch.run_id)]
        assert left_s == pytest.approx([GONE_S] * 3)
        assert world.store.locks.live([0, 1, 2]) == [True] * 3
        assert world.vectors() == {}
        assert len(world.outbox()) == 3
        world.clock.pass_s(GONE_S + 0.1)
        world.settle()
        world.assert_current()

    def test_a_vector_that_came_from_elsewhere_is_replaced(self, world: MemoryWorld) -> None:
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.put_vector(1)
        assert world.save(batch, outcomes) == {EMBEDDED: 2}
        world.assert_current()


class TestRowsEditedInFlight:
    def test_while_the_provider_is_asked_are_embedded_again(self, world: MemoryWorld) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        world.provider.during = lambda _: world.write(1, full_name="new")
        outcomes = world.embed(batch)
        world.provider.during = lambda _: None
        world.save(batch, outcomes)
        assert len(world.outbox(Lane.FRESH)) == 1
        world.settle()
        assert world.provider.paid == {"old": 1, "new": 1}
        world.assert_current()

    def test_between_the_two_tasks_are_embedded_again(self, world: MemoryWorld) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.write(1, full_name="new")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()

    def test_deleted_while_the_provider_is_asked_leave_nothing(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        world.provider.during = lambda _: world.delete(1)
        world.carry_out(batch)
        world.settle()
        assert world.vectors() == {}
        world.assert_current()

    def test_deleted_and_made_again_are_current(self, world: MemoryWorld) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.delete(1)
        world.write(1, full_name="y")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()


class TestARetiredSpace:
    def test_is_not_written_into_even_before_it_was_noticed(
        self, make_world: MakeMemoryWorld
    ) -> None:
        old = make_world()
        old.write_many(3)
        batch = old.claim()
        outcomes = old.embed(batch)
        make_world(embedding_model="another")
        assert old.save(batch, outcomes) == {DEFERRED: 3}
        assert old.vectors() == {}
        assert len(old.outbox()) == 3
        assert old.locks() == {}

    def test_leaves_runs_of_the_new_one_to_others(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        new = make_world(embedding_model="another")
        new.write_many(3)
        batch = new.claim()
        outcomes = new.embed(batch)
        with pytest.raises(AnotherSpace):
            old.services.storer.store(batch.run_id, outcomes, batch.space)
        assert new.save(batch, outcomes) == {EMBEDDED: 3}

    def test_has_its_rows_unlocked_by_the_new_one(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write_many(6)
        batch = old.claim()
        new = make_world(embedding_model="another")
        half = [replace(batch, rows=batch.rows[:3]), replace(batch, rows=batch.rows[3:])]
        assert {one.status for one in new.embed(half[0])} == {DEFERRED}
        settled = [Outcome(row, Status.UNCHANGED) for row in half[1].rows]
        tally = new.services.storer.store(batch.run_id, settled, batch.space)
        assert tally[DEFERRED] == 3
        assert new.locks() == {}
        new.settle()
        new.assert_current()
