"""A batch on its way: loaded, embedded, cached, stored. Real Redis, real SurrealDB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from surrealdb.data.types.record_id import RecordID

from embed_star.models import Batch, Lane, Pending, Status
from embed_star.text import text_hash
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.scripted_answers import vector_for
from tests.support.world import World

CACHED, EMBEDDED, FAILED = Status.CACHED, Status.EMBEDDED, Status.FAILED
DEFERRED, GONE, LOST, UNCHANGED = Status.DEFERRED, Status.GONE, Status.LOST, Status.UNCHANGED


def statuses(outcomes: list) -> list[Status]:  # type: ignore[type-arg]
    return [one.status for one in outcomes]


class TestARow:
    def test_is_embedded_and_stored(self, world: World) -> None:
        world.write("a/b", full_name="a/b", description="über", language="C", topics=["x", "y"])
        assert world.carry_out(world.claim()) == {EMBEDDED: 1}
        text = "a/b\nüber\nC\nx, y"
        assert world.provider.calls == [(text,)]
        row = world.vectors()['"a/b"']
        assert row["text_hash"] == text_hash(text)
        assert np.array_equal(np.float32(row["vector"]), vector_for(text, DIMENSIONS))
        world.assert_current()

    def test_many_keep_their_own_vectors(self, world: World) -> None:
        keys = world.write_many(20)
        assert world.carry_out(world.claim()) == {EMBEDDED: 20}
        rows = world.vectors()
        for key in keys:
            expected = vector_for(f"owner/name{key}", DIMENSIONS)
            assert np.array_equal(np.float32(rows[str(key)]["vector"]), expected)

    def test_that_is_known_by_its_text_is_not_paid_for(self, world: World) -> None:
        world.write(1, full_name="same")
        world.carry_out(world.claim())
        world.write(2, full_name="same")
        batch = world.claim()
        assert statuses(world.embed(batch)) == [CACHED]
        assert world.carry_out(batch) == {CACHED: 1}
        assert len(world.provider.calls) == 1
        assert world.vectors()["1"]["vector"] == world.vectors()["2"]["vector"]
        world.assert_current()

    def test_equal_texts_in_a_batch_are_paid_for_once(self, world: World) -> None:
        for key in range(5):
            world.write(key, full_name="same")
        assert world.carry_out(world.claim()) == {EMBEDDED: 5}
        assert world.provider.calls == [("same",)]
        world.assert_current()

    def test_whose_text_did_not_change_is_left(self, world: World) -> None:
        world.write(1, full_name="x")
        world.settle()
        before = world.vectors()
        world.store.outbox.announce([(1, 0)], Lane.BACKFILL)
        assert world.carry_out(world.claim()) == {UNCHANGED: 1}
        assert world.vectors() == before
        assert world.provider.paid == {"x": 1}
        world.assert_current()

    def test_that_was_deleted_leaves_nothing(self, world: World) -> None:
        world.write(1, full_name="x")
        world.settle()
        world.delete(1)
        assert world.carry_out(world.claim()) == {GONE: 1}
        assert world.vectors() == {}
        world.assert_current()

    @pytest.mark.parametrize("fields", [{}, {"description": " \t"}, {"topics": []}])
    def test_with_nothing_to_say_is_set_aside(self, world: World, fields: dict) -> None:  # type: ignore[type-arg]
        world.write(1, full_name=None, **fields)
        assert world.carry_out(world.claim()) == {FAILED: 1}
        assert world.failures()["1"]["reason"] == "empty_text"
        assert world.provider.calls == []
        world.assert_current()

    def test_set_aside_is_left_until_its_text_changes(self, world: World) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="poison")
        world.settle()
        world.store.outbox.announce([(1, 0)], Lane.FRESH)
        assert world.carry_out(world.claim()) == {UNCHANGED: 1}
        assert len(world.provider.calls) == 1
        world.write(1, full_name="good")
        assert world.carry_out(world.claim()) == {EMBEDDED: 1}
        assert world.failures() == {}
        world.assert_current()

    def test_embedded_and_then_refused_has_no_vector_of_its_old_text(self, world: World) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write(1, full_name="good")
        world.settle()
        world.write(1, full_name="poison")
        world.settle()
        assert world.vectors() == {}
        world.assert_current()
        world.write(1, full_name="good")  # and back: the cache knows it
        assert world.carry_out(world.claim()) == {CACHED: 1}
        world.assert_current()

    def test_of_a_batch_of_another_space_is_left_pending(self, world: World) -> None:
        world.write(1, full_name="x")
        batch = replace(world.claim(), space="other")
        assert world.carry_out(batch) == {DEFERRED: 1}
        assert world.provider.calls == []
        assert len(world.outbox()) == 1

    def test_all_sorts_in_one_batch(self, world: World) -> None:
        world.provider.rejects = lambda text: "poison" in text
        world.write("unchanged", full_name="u")
        world.write("gone", full_name="g")
        world.settle()
        world.store.outbox.announce([("unchanged", 0)], Lane.FRESH)
        world.delete("gone")
        world.write("poison", full_name="poison")
        world.write("empty", full_name="")
        world.write("cached", full_name="g")
        world.write("new", full_name="n")
        batch = world.claim()
        world.lose(batch, "new")
        by_key = {one.row.key: one.status for one in world.embed(batch)}
        assert by_key == {
            "unchanged": UNCHANGED,
            "gone": GONE,
            "poison": FAILED,
            "empty": FAILED,
            "cached": CACHED,
            "new": LOST,
        }
        assert world.carry_out(batch) == {UNCHANGED: 1, GONE: 1, FAILED: 2, CACHED: 1, LOST: 1}
        world.settle()
        world.assert_current()


class TestAMessage:
    def test_twice_pays_once_and_stores_once(self, world: World) -> None:
        world.write_many(5)
        batch = world.claim()
        first, second = world.embed(batch), world.embed(batch)
        assert statuses(first) == [EMBEDDED] * 5
        assert statuses(second) == [CACHED] * 5
        assert world.save(batch, first) == {EMBEDDED: 5}
        before = world.vectors()
        assert world.save(batch, second) == {LOST: 5}
        assert world.save(batch, first) == {LOST: 5}
        assert world.vectors() == before
        assert len(world.provider.calls) == 1
        world.assert_current()

    def test_that_comes_after_its_run_is_not_paid_for(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        world.carry_out(batch)
        for key in range(3):
            world.write(key, full_name=f"newer {key}")
        assert statuses(world.embed(batch)) == [LOST] * 3
        assert world.provider.paid == {f"owner/name{n}": 1 for n in range(3)}
        world.settle()
        world.assert_current()

    def test_of_a_run_that_lost_its_locks_pays_for_nothing(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        world.lose(batch)
        world.store.locks.acquire([0, 1], "another", 60.0)
        assert world.carry_out(batch) == {LOST: 3}
        assert world.provider.calls == []
        assert (len(world.outbox()), world.vectors()) == (3, {})

    def test_with_rows_that_were_never_there(self, world: World) -> None:
        batch = Batch("run", "c", world.services.space.name, (Pending("x", ((0, "0" * 26),)),))
        assert world.carry_out(batch) == {LOST: 1}

    def test_with_no_rows(self, world: World) -> None:
        batch = Batch("run", "c", world.services.space.name, ())
        assert world.embed(batch) == []
        assert world.save(batch, []) == {}


class TestStoring:
    def test_what_was_lost_meanwhile_is_left_and_the_rest_written(self, world: World) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch, 1)
        world.store.locks.acquire([1], "another", 60.0)
        world.lose(batch, 2)
        assert world.save(batch, outcomes) == {EMBEDDED: 2, LOST: 2}
        assert set(world.vectors()) == {"0", "3"}
        assert world.locks() == {"1": "another"}
        assert {entry.key for entry in world.outbox()} == {1, 2}

    def test_a_run_that_lost_all_its_locks_stores_nothing(self, world: World) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch)
        assert world.save(batch, outcomes) == {LOST: 4}
        assert world.vectors() == {}
        assert len(world.outbox()) == 4

    def test_without_the_cached_vectors_rows_stay_pending(self, make_world: MakeWorld) -> None:
        world = make_world(cache_local_entries=0)
        world.write_many(3)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.services.redis.flushall()
        assert world.save(batch, outcomes) == {DEFERRED: 3}
        assert world.vectors() == {}
        assert len(world.outbox()) == 3
        world.lose(batch)  # as they would end by themselves
        world.settle()
        world.assert_current()

    def test_another_process_stores_what_one_embedded(self, make_world: MakeWorld) -> None:
        one, other = make_world(), make_world()
        one.write_many(3)
        batch = one.claim()
        assert other.save(batch, one.embed(batch)) == {EMBEDDED: 3}
        assert other.provider.calls == []
        one.assert_current()

    def test_a_vector_that_came_from_elsewhere_is_replaced(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        backup = RecordID(world.table, 1)
        world.query("CREATE $id SET vector = [1.0], text_hash = 'x'", id=backup)
        assert world.save(batch, outcomes) == {EMBEDDED: 2}
        world.assert_current()

    def test_more_rows_than_one_transaction_takes(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=300)
        world.write_many(250)
        assert world.carry_out(world.claim()) == {EMBEDDED: 250}
        world.assert_current()

    def test_the_run_is_over_then(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        runs = world.services.runs
        assert (runs.counts().in_flight, runs.counts().queued) == (3, 3)
        world.services.embedder.started(batch)
        assert (runs.counts().in_flight, runs.counts().queued) == (3, 0)
        world.carry_out(batch)
        counts = runs.counts()
        assert (counts.in_flight, counts.queued, counts.finished_total) == (0, 0, 3)
        assert runs.totals() == {"embedded": 3, "finished": 3}
        assert world.services.locks.acquire([0, 1, 2], "next", 60.0) == [True] * 3


class TestEditedInFlight:
    """Promise W: whatever comes in between, the newest text wins in the end."""

    def test_while_the_provider_is_asked(self, world: World) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        world.provider.during = lambda _: world.write(1, full_name="new")
        outcomes = world.embed(batch)
        world.provider.during = lambda _: None
        world.save(batch, outcomes)
        assert len(world.outbox(Lane.FRESH)) == 1
        world.settle()
        assert world.vectors()["1"]["text_hash"] == text_hash("new")
        assert world.provider.paid == {"old": 1, "new": 1}
        world.assert_current()

    def test_between_the_two_tasks(self, world: World) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.write(1, full_name="new")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()

    def test_by_a_run_that_came_after(self, world: World) -> None:
        world.write(1, full_name="old")
        late = world.claim()
        outcomes = world.embed(late)
        world.lose(late)  # stopped for longer than its locks
        world.write(1, full_name="new")
        world.settle()
        assert world.save(late, outcomes) == {LOST: 1}
        world.assert_current()

    def test_deleted_while_the_provider_is_asked(self, world: World) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        world.provider.during = lambda _: world.delete(1)
        world.carry_out(batch)
        world.settle()
        assert world.vectors() == {}
        world.assert_current()

    def test_deleted_and_made_again(self, world: World) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.delete(1)
        world.write(1, full_name="y")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()
