"""What no event announced is found: page by page, from wherever the walk was stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from embed_star.models import Key, Lane, key_text
from embed_star.produce import reconcile
from embed_star.produce.reconcile import Reconciler
from embed_star.store.client.connection import Connection
from embed_star.store.tables.checkpoints import Phase, Progress
from embed_star.values import RecordID
from tests.conftest import MakeWorld
from tests.support.world import World

MIXED: list[Key] = [3, -1, 20, "a", "3", "⟨x⟩`", UUID(int=1), ["a", 1], ["a", 2], {"n": 1}]


def walk(world: World, reconciler: Reconciler | None = None) -> Progress:
    """A whole walk; its end."""
    reconciler = reconciler or world.services.reconciler
    progress = reconciler.begin()
    for _ in range(100):
        if progress.phase is Phase.DONE:
            return progress
        progress = reconciler.step(progress)
    raise AssertionError("the walk does not end")


class TestFinds:
    def test_rows_that_fired_no_event(self, world: World) -> None:
        with world.unannounced():
            world.write_many(7)
        assert world.outbox() == []
        progress = walk(world)
        assert (progress.checked, progress.found) == (7, 7)
        assert world.outbox(Lane.FRESH) == []
        assert sorted(entry.key for entry in world.outbox(Lane.BACKFILL)) == list(range(7))
        world.settle()
        world.assert_current()

    def test_a_text_edited_behind_its_back(self, world: World) -> None:
        world.write_many(5)
        world.settle()
        with world.unannounced():
            world.write(3, description="edited")
        progress = walk(world)
        assert (progress.checked, progress.found) == (5, 1)
        (entry,) = world.outbox()
        assert entry.key == 3
        assert entry.size == len("owner/name3\nedited")
        world.settle()
        world.assert_current()

    def test_vectors_of_deleted_repos(self, world: World) -> None:
        world.write_many(5)
        world.settle()
        with world.unannounced():
            world.delete(1)
            world.delete(4)
        assert walk(world).found == 2
        world.settle()
        assert set(world.vectors()) == {"0", "2", "3"}
        world.assert_current()

    def test_a_failure_whose_text_changed(self, world: World) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        assert walk(world).found == 0
        with world.unannounced():
            world.write(1, full_name="good")
        assert walk(world).found == 1
        world.settle()
        world.assert_current()

    def test_rows_of_another_space(self, make_world: MakeWorld) -> None:
        old = make_world()
        old.write_many(3)
        old.settle()
        new = make_world(embedding_model="another-model")
        assert walk(new).found == 3
        new.settle()
        new.assert_current()
        assert len(old.vectors()) == 3  # they stay until somebody decides

    def test_an_empty_text_once(self, world: World) -> None:
        with world.unannounced():
            world.write(1, full_name="")
        assert walk(world).found == 1
        world.settle()
        assert world.failures()["1"]["reason"] == "empty_text"
        assert walk(world).found == 0

    def test_nothing_when_all_is_current(self, world: World) -> None:
        world.write_many(9)
        world.settle()
        progress = walk(world)
        assert (progress.phase, progress.checked, progress.found) == (Phase.DONE, 9, 0)
        assert world.outbox() == []

    def test_nothing_in_an_empty_database(self, world: World) -> None:
        assert walk(world).checked == 0

    def test_no_row_that_is_pending_already(self, world: World) -> None:
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

    def test_no_row_of_a_run_that_ends_during_the_walk(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=2)
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

    def test_a_row_that_changes_unannounced_while_a_run_holds_it(self, world: World) -> None:
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

    def test_rows_that_a_run_still_holds_when_they_are_looked_at_again(self, world: World) -> None:
        world.write_many(3)
        world.claim()
        assert walk(world).found == 3

    @pytest.mark.parametrize("page", [1, 2, 3, 10, 11])
    def test_every_row_once_whatever_its_key(self, make_world: MakeWorld, page: int) -> None:
        world = make_world(page_rows=page)
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


class TestWhatIsLeftOfDeletedRepos:
    def test_their_failures_go(self, make_world: MakeWorld) -> None:
        """No event announced the deletions, and there is no vector that would tell of them."""
        world = make_world(page_rows=2)
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

    def test_failures_with_keys_that_no_message_carries_go_too(self, world: World) -> None:
        """At once when the event announced it: such a key is exact in the database alone."""
        stamps = ("2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")
        for number, stamp in enumerate(stamps, 1):
            world.query(f"CREATE repo:[d'{stamp}', {number}] SET full_name = 'a'")
        world.settle()
        assert len(world.query("SELECT * FROM embedding_failure")[0]) == 3
        world.query("DELETE repo:[d'2024-01-01T00:00:00.123456789Z', 1]")
        world.settle()
        assert len(world.query("SELECT * FROM embedding_failure")[0]) == 2
        with world.unannounced():
            world.query("DELETE repo:[d'2024-01-02T00:00:00Z', 3]")
        assert walk(world).removed == 1
        (left,) = world.query("SELECT VALUE record::id(id)[1] FROM embedding_failure")
        assert left == [2]

    def test_a_set_in_a_key_is_not_taken_for_an_array(self, world: World) -> None:
        """Of `repo:[{1}]` and `repo:[[1]]`, only that one's failure goes whose row is gone."""
        if world.store.database.version < (3,):
            pytest.skip("2.x has no sets")
        for key in ("[<set>[1]]", "{ a: [<set>[NULL]] }", "[owner:[<set>[2]]]"):
            world.query(f"CREATE repo:{key} SET full_name = 'a'")
        world.settle()
        assert (walk(world).found, walk(world).removed) == (0, 0)
        with world.unannounced():
            world.query("DELETE repo:[<set>[1]]; CREATE repo:[[1]] SET full_name = 'a'")
        walked = walk(world)
        assert (walked.found, walked.removed) == (1, 1)
        (left,) = world.query("SELECT VALUE <string>record::id(id) FROM embedding_failure")
        assert sorted(left) == ["[owner:[{2,}]]", "{ a: [{NULL,}] }"]

    def test_a_failure_of_a_row_that_is_there_again_stays(self, world: World) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        with world.unannounced():
            world.delete(1)
            world.write(1, full_name="poison")
        assert walk(world).removed == 0
        world.assert_current()

    def test_their_vectors_in_retired_spaces_go(self, make_world: MakeWorld) -> None:
        """Announced or not; page by page, one space after another, the others' vectors stay."""
        worlds = [make_world(embedding_model=f"model-{n}", page_rows=3) for n in range(3)]
        for world in worlds:  # each in turn is the active one, and leaves vectors
            world.store.spaces.ensure(world.services.space, world.settings.text_fields)
            world.write_many(10) if world is worlds[0] else world.reconcile()
            world.settle()
        last = worlds[-1]
        assert [len(world.vectors()) for world in worlds] == [10, 10, 10]
        last.delete(2)
        with last.unannounced():
            last.delete(9)
        last.settle()
        progress = walk(last)
        assert progress.removed == 4
        last.settle()
        left = {str(n) for n in range(10)} - {"2", "9"}
        assert [set(world.vectors()) for world in worlds] == [left, left, left]
        assert walk(last).removed == 0

    def test_a_retired_space_without_its_table_is_passed_by(self, make_world: MakeWorld) -> None:
        old, new = make_world(), make_world(embedding_model="another")
        new.query(f"REMOVE TABLE {old.table}")
        assert walk(new).phase is Phase.DONE

    def test_the_walk_over_retired_spaces_goes_on_where_it_was(self, make_world: MakeWorld) -> None:
        old = make_world()
        old.write_many(6)
        old.settle()
        new = make_world(embedding_model="another", page_rows=2)
        with new.unannounced():
            for key in range(6):
                new.delete(key)
        reconciler = new.services.reconciler
        progress = reconciler.begin()
        while progress.removed < 2:
            progress = reconciler.step(progress)
        other = make_world(embedding_model="another", page_rows=2)
        resumed = other.services.reconciler.begin()
        assert (resumed.phase, resumed.after) == (Phase.RETIRED, 1)
        assert resumed.space == old.services.space.name
        assert walk(other).removed == 6
        assert old.vectors() == {}


class TestTheWalk:
    def test_goes_on_where_it_was_stopped(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=4)
        with world.unannounced():
            world.write_many(10)
        reconciler = world.services.reconciler
        reconciler.step(reconciler.begin())
        other = make_world(page_rows=4)  # another process takes over
        resumed = other.services.reconciler.begin()
        assert (resumed.phase, resumed.after, resumed.checked) == (Phase.REPOS, 3, 4)
        assert walk(other, other.services.reconciler).checked == 10
        assert sorted(entry.key for entry in world.outbox()) == list(range(10))

    def test_goes_on_among_the_vectors(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=4)
        world.write_many(10)
        world.settle()
        reconciler = world.services.reconciler
        progress = reconciler.begin()
        while (progress.phase, progress.after) != (Phase.VECTORS, 3):
            progress = reconciler.step(progress)
        with world.unannounced():
            world.delete(0)  # passed by already
            world.delete(9)
        other = make_world(page_rows=4)
        assert walk(other).found == 1
        world.settle()
        assert walk(other).found == 1

    def test_a_step_repeated_announces_again_and_harms_nothing(self, make_world: MakeWorld) -> None:
        world = make_world(page_rows=4)
        with world.unannounced():
            world.write_many(6)
        reconciler = world.services.reconciler
        beginning = reconciler.begin()
        reconciler.step(beginning)
        reconciler.step(beginning)
        walk(world)
        world.settle()
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_is_due_until_one_is_complete(self, world: World) -> None:
        reconciler = world.services.reconciler
        assert reconciler.due(3600.0)  # there never was one
        progress = reconciler.begin()
        assert reconciler.due(3600.0)  # unfinished
        while progress.phase is not Phase.DONE:
            progress = reconciler.step(progress)
        assert not reconciler.due(3600.0)
        assert reconciler.due(0.0)
        reconciler.begin()
        assert reconciler.due(3600.0)

    def test_pauses_when_the_lane_is_full(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reconcile, "ENOUGH_ROWS", 3)
        world = make_world()
        reconciler = world.services.reconciler
        assert reconciler.backlog_is_short()
        world.store.outbox.announce([(n, 1) for n in range(4)], Lane.FRESH)
        assert reconciler.backlog_is_short()
        world.store.outbox.announce([(n, 1) for n in range(4)], Lane.BACKFILL)
        assert not reconciler.backlog_is_short()

    def test_never_reads_a_whole_table(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make_world(page_rows=2)
        with world.unannounced():
            world.write_many(5)
        asked: list[tuple[str, Mapping[str, Any]]] = []
        query = Connection.query

        def listen(self: Connection, sql: str, params: Any = None, **more: Any) -> list[Any]:
            asked.append((sql, params))
            return query(self, sql, params, **more)

        monkeypatch.setattr(Connection, "query", listen)
        reconciler = world.services.reconciler
        assert reconciler.due(0.0)
        assert reconciler.backlog_is_short()
        walk(world)
        assert len(asked) > 8
        for sql, params in asked:
            for statement in sql.split(";"):
                source = re.search(r"\bFROM\s+(\S+)", statement)
                if source is None or source[1] == "embedding_space":  # a row for each model
                    continue
                bound = (params or {}).get(source[1].removeprefix("$"))
                by_id = isinstance(bound, RecordID | list) or source[1].startswith(
                    ("type::record('repo',", "type::thing('repo',", "$page")  # read before
                )
                assert by_id or re.search(
                    r"\bLIMIT (\$rows|1 START \$rows|\$rows START \$skipped)\)?$", statement.strip()
                ), statement
