"""A batch on its way: loaded, embedded, cached, stored. Real Redis, real SurrealDB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embed_star.embed.text import text_hash
from embed_star.models import Batch, Lane, Pending, Status
from tests.conftest import DIMENSIONS
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
        calls = len(world.provider.calls)
        assert world.carry_out(world.claim()) == {UNCHANGED: 1}
        assert len(world.provider.calls) == calls
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

    def test_of_every_sort_has_its_own_outcome_in_one_batch(self, world: World) -> None:
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

    def test_that_comes_after_its_locks_ended_renews_them(self, world: World) -> None:
        """As one does that a killed worker had taken: redelivery takes longer than a lock."""
        world.write_many(3)
        batch = world.claim()
        world.query("UPDATE embedding_lock SET expires = time::now() - 1m")
        outcomes = world.embed(batch)
        assert statuses(outcomes) == [EMBEDDED] * 3
        (state, *_) = world.store.repos.load([0], batch.run_id)
        assert state.lock_left_s is not None
        assert state.lock_left_s > 0, "nobody may take the row while it is paid for"
        assert world.save(batch, outcomes) == {EMBEDDED: 3}
        world.assert_current()

    def test_with_rows_that_were_never_claimed_loses_them(self, world: World) -> None:
        batch = Batch("run", "c", world.services.space.name, (Pending("x", ((0, "0" * 26),)),))
        assert world.carry_out(batch) == {LOST: 1}

    def test_with_no_rows_does_nothing(self, world: World) -> None:
        batch = Batch("run", "c", world.services.space.name, ())
        assert world.embed(batch) == []
        assert world.save(batch, []) == {}
