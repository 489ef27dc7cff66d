"""`Vectors`, held against each store: the bulk write is done whole or not at all, and only by
whoever holds the locks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embed_star.errors import AlreadyExists, FenceLost, StoreError
from embed_star.models import Key, Lane
from embed_star.store.tables.vectors import BulkWrite, FailureWrite, VectorWrite
from embed_star.values import RecordID
from tests.conftest import DIMENSIONS
from tests.support.world import World

RUN = "run-1"
KEYS: list[Key] = [1, "1", "a/b"]


def vector(value: float) -> Any:
    return np.full(DIMENSIONS, value, dtype=np.float32)


def held(world: World, *keys: Key, run: str = RUN) -> BulkWrite:
    """Pending rows whose locks `run` holds, and the write that gives each a vector."""
    keys = keys or tuple(KEYS)
    for key in keys:
        world.write(key, full_name=f"name of {key}")
    assert all(world.store.locks.acquire(keys, run, 60.0))
    return BulkWrite(
        run_id=run,
        vectors=[VectorWrite(key, vector(n + 1), f"hash {n}") for n, key in enumerate(keys)],
        outbox=[entry.id for entry in world.outbox()],
        locks=keys,
    )


def snapshot(world: World) -> tuple[Any, ...]:
    return world.vectors(), world.failures(), world.outbox(), world.locks()


class TestApply:
    def test_writes_the_vectors_and_ends_the_work(self, world: World) -> None:
        world.store.vectors.apply(held(world))
        assert world.outbox() == []
        assert world.locks() == {}
        rows = world.vectors()
        assert list(rows) == ["1", '"1"', '"a/b"']
        for number, (key, row) in enumerate(zip(KEYS, rows.values(), strict=True)):
            assert row["id"].id == key
            assert row["repo"] == RecordID("repo", key)
            assert row["vector"] == [number + 1.0] * DIMENSIONS
            assert (row["text_hash"], row["run"]) == (f"hash {number}", RUN)

    def test_float32_values_come_back_as_they_were(self, world: World) -> None:
        write = held(world, "a")
        values = np.array([1 / 3, -1e-30, 3.4e38, 0, -0.0, 1e-45, 7, 0.1], dtype=np.float32)
        world.store.vectors.apply(replace(write, vectors=[VectorWrite("a", values, "h")]))
        stored = np.array(world.vectors()['"a"']["vector"], dtype=np.float32)
        assert stored.tobytes() == values.tobytes()

    def test_without_vectors_removes_records_and_locks(self, world: World) -> None:
        write = replace(held(world), vectors=[])
        world.store.vectors.apply(write)
        assert snapshot(world) == ({}, {}, [], {})

    def test_a_stale_vector_is_replaced(self, world: World) -> None:
        world.store.vectors.apply(held(world, "a", "b"))
        write = held(world, "a", run="run-2")
        world.store.vectors.apply(
            replace(write, vectors=[VectorWrite("a", vector(9), "new")], stale=["a"])
        )
        rows = world.vectors()
        assert (rows['"a"']["text_hash"], rows['"a"']["run"]) == ("new", "run-2")
        assert rows['"a"']["vector"] == [9.0] * DIMENSIONS
        assert rows['"b"']["run"] == RUN

    def test_the_vector_of_a_deleted_repo_goes(self, world: World) -> None:
        world.store.vectors.apply(held(world, "a"))
        world.delete("a")
        world.store.locks.acquire(["a"], "run-2", 60.0)
        (entry,) = world.outbox()
        world.store.vectors.apply(
            BulkWrite("run-2", stale=["a"], healed=["a"], outbox=[entry.id], locks=["a"])
        )
        assert snapshot(world) == ({}, {}, [], {})

    def test_failures_are_counted_and_healed(self, world: World) -> None:
        for attempt in (1, 2):
            write = held(world, "a", "b", run=f"run-{attempt}")
            failed = [FailureWrite(key, f"hash {attempt}", "not_finite") for key in ("a", "b")]
            world.store.vectors.apply(replace(write, vectors=[], failures=failed))
            failures = world.failures()
            assert set(failures) == {'"a"', '"b"'}
            row = failures['"a"']
            assert (row["attempts"], row["reason"]) == (attempt, "not_finite")
            assert row["text_hash"] == f"hash {attempt}"
            assert row["space"] == world.space.name
        world.store.vectors.apply(replace(held(world, "a", run="run-3"), healed=["a"]))
        assert set(world.failures()) == {'"b"'}
        assert set(world.vectors()) == {'"a"'}

    def test_writes_two_hundred_rows_at_once(self, world: World) -> None:
        keys = world.write_many(200)
        assert all(world.store.locks.acquire(keys, RUN, 60.0))
        world.store.vectors.apply(
            BulkWrite(
                RUN,
                vectors=[VectorWrite(key, vector(1), "h") for key in keys],
                outbox=[entry.id for entry in world.outbox()],
                locks=keys,
            )
        )
        assert world.store.vectors.count() == 200
        assert (world.outbox(), world.locks()) == ([], {})


class TestTheFence:
    def test_refuses_another_run_s_token(self, world: World) -> None:
        write = held(world)
        before = snapshot(world)
        with pytest.raises(FenceLost):
            world.store.vectors.apply(replace(write, run_id="run-2"))
        assert snapshot(world) == before

    @pytest.mark.parametrize("lost", KEYS, ids=repr)
    def test_one_lost_lock_keeps_everything_out(self, world: World, lost: Key) -> None:
        write = held(world)
        world.store.locks.release([lost], RUN)
        world.store.locks.acquire([lost], "run-2", 60.0)
        before = snapshot(world)
        with pytest.raises(FenceLost):
            world.store.vectors.apply(write)
        assert snapshot(world) == before

    def test_one_lock_that_is_gone_keeps_everything_out(self, world: World) -> None:
        write = held(world)
        world.store.locks.release(KEYS[1:2], RUN)
        before = snapshot(world)
        with pytest.raises(FenceLost):
            world.store.vectors.apply(write)
        assert snapshot(world) == before

    def test_a_second_time_changes_nothing(self, world: World) -> None:
        write = held(world)
        world.store.vectors.apply(write)
        before = snapshot(world)
        with pytest.raises(FenceLost):
            world.store.vectors.apply(write)
        assert snapshot(world) == before

    def test_a_late_write_does_not_undo_a_newer_one(self, world: World) -> None:
        late = held(world, "a")
        world.store.locks.release(["a"], RUN)  # its time had run out
        newer = held(world, "a", run="run-2")
        newer = replace(newer, vectors=[VectorWrite("a", vector(2), "newer")])
        world.store.vectors.apply(newer)
        with pytest.raises(FenceLost):
            world.store.vectors.apply(replace(late, stale=["a"]))
        assert world.vectors()['"a"']["text_hash"] == "newer"

    def test_holds_for_failures_and_removals_too(self, world: World) -> None:
        world.store.vectors.apply(held(world, "a"))
        world.write("a", full_name="other")
        (entry,) = world.outbox()
        before = snapshot(world)
        for write in (
            BulkWrite("run-2", stale=["a"], outbox=[entry.id], locks=["a"]),
            BulkWrite("run-2", failures=[FailureWrite("a", "h", "x")], locks=["a"]),
            BulkWrite("run-2", outbox=[entry.id], locks=["a"]),
        ):
            with pytest.raises(FenceLost):
                world.store.vectors.apply(write)
        assert snapshot(world) == before


class TestAllOrNothing:
    def test_an_insert_that_fails_leaves_all_as_it_was(self, world: World) -> None:
        world.store.vectors.apply(held(world, "a"))
        write = held(world, "a", "b", run="run-2")  # and "a" is not named as stale
        before = snapshot(world)
        with pytest.raises(AlreadyExists):
            world.store.vectors.apply(
                replace(write, failures=[FailureWrite("b", "h", "x")], healed=["b"])
            )
        assert snapshot(world) == before
        world.store.vectors.apply(replace(write, stale=["a"]))
        assert {row["run"] for row in world.vectors().values()} == {"run-2"}

    @pytest.mark.parametrize("make_world", ["server", "embedded"], indirect=True)
    def test_a_failing_statement_after_the_insert_undoes_it(self, world: World) -> None:
        world.query(
            "DEFINE FIELD reason ON embedding_failure TYPE string ASSERT $value != 'forbidden'"
        )
        write = held(world, "a", "b")
        before = snapshot(world)
        with pytest.raises(StoreError):
            world.store.vectors.apply(
                replace(write, failures=[FailureWrite("b", "h", "forbidden")])
            )
        assert snapshot(world) == before

    def test_a_record_announced_meanwhile_stays(self, world: World) -> None:
        write = held(world, "a")
        world.write("a", full_name="edited in flight")
        world.store.vectors.apply(write)
        (entry,) = world.outbox(Lane.FRESH)
        assert entry.key == "a"
