"""The Reconciler: what no event announced is found, from wherever the walk was stopped."""

from __future__ import annotations

from uuid import UUID

import pytest

from embed_star.models import Key, Lane, key_text
from embed_star.produce import reconcile
from embed_star.produce.reconcile import PUT_OFF_S
from embed_star.store.tables.checkpoints import Phase, Progress
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld

MIXED: list[Key] = [3, -1, 20, "a", "3", "⟨x⟩`", UUID(int=1), ["a", 1], ["a", 2], {"n": 1}]


def walk(world: MemoryWorld) -> Progress:
    """A whole walk; its end."""
    reconciler = world.services.reconciler
    progress = reconciler.begin()
    for _ in range(100):
        if progress.phase is Phase.DONE:
            return progress
        progress = reconciler.step(progress)
    raise AssertionError("the walk does not end")


class TestFinds:
    def test_rows_that_fired_no_event(self, world: MemoryWorld) -> None:
        with world.unannounced():
            world.write_many(7)
        progress = walk(world)
        assert (progress.checked, progress.found) == (7, 7)
        assert world.outbox(Lane.FRESH) == []
        assert [entry.key for entry in world.outbox(Lane.BACKFILL)] == list(range(7))
        world.settle()
        world.assert_current()

    def test_a_text_edited_behind_its_back(self, world: MemoryWorld) -> None:
        world.write_many(5)
        world.settle()
        with world.unannounced():
            world.write(3, description="edited")
        progress = walk(world)
        assert (progress.checked, progress.found) == (5, 1)
        (entry,) = world.outbox()
        assert (entry.key, entry.size) == (3, len("owner/name3\nedited"))
        world.settle()
        world.assert_current()

    def test_vectors_of_deleted_repos(self, world: MemoryWorld) -> None:
        world.write_many(5)
        world.settle()
        with world.unannounced():
            world.delete(1)
            world.delete(4)
        assert walk(world).found == 2
        world.settle()
        assert set(world.vectors()) == {"0", "2", "3"}
        world.assert_current()

    def test_a_failure_whose_text_changed(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        assert walk(world).found == 0
        with world.unannounced():
            world.write(1, full_name="good")
        assert walk(world).found == 1
        world.settle()
        world.assert_current()

    def test_a_failure_that_was_released(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        world.store.failures.release([1])
        for entry in world.outbox():
            world.backends.database.outbox.delete(list(entry.id))
        assert walk(world).found == 1

    def test_rows_of_another_space(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write_many(3)
        old.settle()
        new = make_world(embedding_model="another")
        assert walk(new).found == 3
        new.settle()
        new.assert_current()
        assert len(old.vectors()) == 3  # they stay until somebody decides

    def test_an_empty_text_once(self, world: MemoryWorld) -> None:
        with world.unannounced():
            world.write(1, full_name="")
        assert walk(world).found == 1
        world.settle()
        assert world.failures()["1"]["reason"] == "empty_text"
        assert walk(world).found == 0

    def test_nothing_when_all_is_current(self, world: MemoryWorld) -> None:
        world.write_many(9)
        world.settle()
        progress = walk(world)
        assert (progress.phase, progress.checked, progress.found) == (Phase.DONE, 9, 0)
        assert world.outbox() == []

    def test_no_row_that_is_pending_already(self, world: MemoryWorld) -> None:
        world.write_many(3)
        with world.unannounced():
            world.write(3, full_name="unannounced")
            world.write(2, full_name="edited once more")
        assert walk(world).found == 1
        assert len(world.outbox()) == 4
        world.settle()
        assert max(world.provider.paid.values()) == 1
        world.assert_current()
        with world.unannounced():
            world.write(2, full_name="and again")
        assert walk(world).found == 1  # its record of the outbox is gone by now
        world.settle()
        world.assert_current()

    def test_no_row_of_a_run_that_ends_during_the_walk(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(reconcile_page_rows=2)
        world.write_many(5)
        batch = world.claim()
        reconciler = world.services.reconciler
        progress = reconciler.begin()
        while not progress.waits:
            progress = reconciler.step(progress)
        assert (progress.phase, progress.found) == (Phase.VECTORS, 0)
        assert reconciler.begin().claimed == progress.claimed == (0, 1, 2, 3, 4)
        world.carry_out(batch)
        assert walk(world).found == 0
        assert world.outbox() == []

    def test_a_row_that_changes_unannounced_while_a_run_holds_it(self, world: MemoryWorld) -> None:
        world.write_many(3)
        batch = world.claim()
        outcomes = world.embed(batch)
        with world.unannounced():
            world.write(1, full_name="after the run has read it")
        reconciler = world.services.reconciler
        progress = reconciler.begin()
        while not progress.waits:
            progress = reconciler.step(progress)
        world.save(batch, outcomes)
        assert world.outbox() == []
        assert walk(world).found == 1
        world.settle()
        world.assert_current()

    def test_rows_that_a_run_still_holds_when_they_are_looked_at_again(
        self, world: MemoryWorld
    ) -> None:
        world.write_many(3)
        world.claim()
        assert walk(world).found == 3

    @pytest.mark.parametrize("page", [1, 2, 3, 10, 11])
    def test_every_row_once_whatever_its_key(self, make_world: MakeMemoryWorld, page: int) -> None:
        world = make_world(reconcile_page_rows=page)
        with world.unannounced():
            for key in MIXED:
                world.write(key, full_name=f"name of {key}")
        assert walk(world).checked == len(MIXED)
        found = [key_text(entry.key) for entry in world.outbox()]
        assert sorted(found) == sorted(map(key_text, MIXED))
        world.settle()
        world.assert_current()
        with world.unannounced():
            for key in MIXED[::2]:
                world.delete(key)
        assert walk(world).found == len(MIXED[::2])
        world.settle()
        world.assert_current()


class TestRemoves:
    def test_failures_of_deleted_repos(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(reconcile_page_rows=2)
        world.provider.rejects = lambda text: "poison" in text
        for key in MIXED:
            world.write(key, full_name="poison")
        world.settle()
        gone, kept = MIXED[::2], MIXED[1::2]
        with world.unannounced():
            for key in gone:
                world.delete(key)
        progress = walk(world)
        assert (progress.found, progress.removed) == (0, len(gone))
        assert set(world.failures()) == {key_text(key) for key in kept}
        assert walk(world).removed == 0
        world.assert_current()

    def test_their_vectors_in_retired_spaces(self, make_world: MakeMemoryWorld) -> None:
        worlds = []
        for n in range(3):  # each in turn is the active one, and leaves vectors
            worlds.append(make_world(embedding_model=f"model-{n}", reconcile_page_rows=3))
            worlds[-1].write_many(10) if n == 0 else worlds[-1].reconcile()
            worlds[-1].settle()
        last = worlds[-1]
        last.delete(2)
        with last.unannounced():
            last.delete(9)
        last.settle()
        assert walk(last).removed == 4
        last.settle()
        left = {str(n) for n in range(10)} - {"2", "9"}
        assert [set(world.vectors()) for world in worlds] == [left, left, left]
        assert walk(last).removed == 0


class TestTheWalk:
    def test_goes_on_where_it_was_stopped(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(reconcile_page_rows=4)
        with world.unannounced():
            world.write_many(10)
        world.services.reconciler.step(world.services.reconciler.begin())
        other = make_world(reconcile_page_rows=4)  # another process takes over
        resumed = other.services.reconciler.begin()
        assert (resumed.phase, resumed.after, resumed.checked) == (Phase.REPOS, 3, 4)
        assert walk(other).checked == 10
        assert sorted(entry.key for entry in world.outbox()) == list(range(10))

    def test_over_retired_spaces_goes_on_where_it_was(self, make_world: MakeMemoryWorld) -> None:
        old = make_world()
        old.write_many(6)
        old.settle()
        new = make_world(embedding_model="another", reconcile_page_rows=2)
        with new.unannounced():
            for key in range(6):
                new.delete(key)
        progress = new.services.reconciler.begin()
        while progress.removed < 2:
            progress = new.services.reconciler.step(progress)
        other = make_world(embedding_model="another", reconcile_page_rows=2)
        resumed = other.services.reconciler.begin()
        assert (resumed.phase, resumed.after) == (Phase.RETIRED, 1)
        assert resumed.space == old.space.name
        assert walk(other).removed == 6
        assert old.vectors() == {}

    def test_a_step_repeated_announces_again_and_harms_nothing(
        self, make_world: MakeMemoryWorld
    ) -> None:
        world = make_world(reconcile_page_rows=4)
        with world.unannounced():
            world.write_many(6)
        beginning = world.services.reconciler.begin()
        world.services.reconciler.step(beginning)
        world.services.reconciler.step(beginning)
        walk(world)
        world.settle()
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_is_due_when_it_never_was_is_unfinished_or_is_long_ago(
        self, world: MemoryWorld
    ) -> None:
        reconciler = world.services.reconciler
        assert reconciler.due(3600.0)
        progress = reconciler.begin()
        assert reconciler.due(3600.0)
        while progress.phase is not Phase.DONE:
            progress = reconciler.step(progress)
        assert not reconciler.due(3600.0)
        world.clock.pass_s(3600.0)
        assert reconciler.due(3600.0)
        assert not reconciler.due(3601.0)
        reconciler.begin()
        assert reconciler.due(3601.0)

    def test_waits_while_the_lane_is_long(
        self, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "ENOUGH_ROWS", 3)
        reconciler = world.services.reconciler
        world.store.outbox.announce([(n, 1) for n in range(4)], Lane.FRESH)
        assert reconciler.backlog_is_short()
        world.store.outbox.announce([(n, 1) for n in range(4)], Lane.BACKFILL)
        assert not reconciler.backlog_is_short()
        assert not reconciler.may_walk()

    def test_waits_for_fresh_rows_but_not_for_ever(
        self, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "FRESH_ROWS", 3)
        reconciler = world.services.reconciler
        reconciler.begin()
        assert reconciler.may_walk()
        world.store.outbox.announce([(n, 1) for n in range(4)], Lane.FRESH)
        world.clock.pass_s(PUT_OFF_S - 1.0)
        reconciler.begin()  # the same walk
        assert not reconciler.may_walk()
        world.clock.pass_s(1.0)
        assert reconciler.may_walk()
        walk(world)
        reconciler.begin()
        assert not reconciler.may_walk()

    def test_remembers_so_many_claimed_rows_at_most(
        self, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "MOST_CLAIMED", 3)
        world.write_many(5)
        world.claim()
        progress = world.services.reconciler.step(world.services.reconciler.begin())
        assert (len(progress.claimed), progress.found) == (3, 2)
