"""Reading and writing the user's table, whatever is in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from surrealdb.data.types.record_id import RecordID

from embed_star.errors import StoreError
from embed_star.models import Lane
from embed_star.store.tables.repos import RepoState
from embed_star.store.tables.vectors import BulkWrite, FailureWrite, VectorWrite
from tests.conftest import DIMENSIONS
from tests.support.servers import eventually
from tests.support.world import World


class TestLoad:
    def test_answers_in_the_order_asked_with_gaps_for_missing_rows(self, world: World) -> None:
        world.write("a", full_name="a", language="C")
        world.write("b", full_name="b", topics=["x"])
        states = world.store.repos.load(["b", "missing", "a"], "token")
        assert states == [
            RepoState("b", ("b", None, None, ["x"])),
            RepoState("missing", None),
            RepoState("a", ("a", None, "C", None)),
        ]

    def test_says_what_is_stored_failed_and_locked(self, world: World) -> None:
        keys = [1, 2, 3, 4]
        for key in keys:
            world.write(key, full_name=f"n{key}")
        world.store.locks.acquire(keys, "setup", 60.0)
        vector = np.ones(DIMENSIONS, dtype=np.float32)
        world.store.vectors.apply(
            BulkWrite(
                "setup",
                vectors=[VectorWrite(1, vector, "stored")],
                failures=[FailureWrite(2, "failed", "x")],
                locks=keys,
            )
        )
        world.store.locks.acquire([1, 2], "mine", 60.0)
        world.store.locks.acquire([3], "another's", 60.0)
        one, two, three, four = world.store.repos.load(keys, "mine")
        assert (one.stored_hash, one.failed_hash, one.settled_hash) == ("stored", None, "stored")
        assert (two.stored_hash, two.failed_hash, two.settled_hash) == (None, "failed", "failed")
        assert (three.settled_hash, four.settled_hash) == (None, None)
        assert one.lock_left_s == pytest.approx(60, abs=30)
        assert (three.lock_left_s, four.lock_left_s) == (None, None)

    def test_a_lock_that_is_over_and_not_taken_is_still_the_run_s(self, world: World) -> None:
        world.write(1, full_name="x")
        world.store.locks.acquire([1], "mine", 0.001)

        def over() -> bool:
            (state,) = world.store.repos.load([1], "mine")
            assert state.lock_left_s is not None
            return state.lock_left_s < 0

        eventually(over, "it is over")

    def test_a_failure_in_another_space_does_not_count(self, world: World) -> None:
        world.write(1, full_name="x")
        world.query("CREATE embedding_failure:1 SET space = 'other', text_hash = 'h', reason = 'r'")
        (state,) = world.store.repos.load([1], "t")
        assert state.failed_hash is None

    def test_without_keys_loads_nothing(self, world: World) -> None:
        assert world.store.repos.load([], "t") == []


class TestPage:
    def test_walks_in_key_order(self, world: World) -> None:
        world.write_many(7)
        repos = world.store.repos
        first = repos.page(None, 3).states
        assert [state.key for state in first] == [0, 1, 2]
        assert first[1].values == ("owner/name1", None, None, None)
        assert [state.key for state in repos.page(2, 3).states] == [3, 4, 5]
        assert [state.key for state in repos.page(5, 3).states] == [6]
        assert repos.page(6, 3).keys == []

    def test_goes_on_after_a_row_that_is_gone(self, world: World) -> None:
        world.write_many(4)
        world.delete(1)
        assert [state.key for state in world.store.repos.page(1, 9).states] == [2, 3]


class TestUpsert:
    def test_merges_and_creates(self, world: World) -> None:
        world.write("a", full_name="a", mine="kept")
        rows = [("a", {"full_name": "b", "stars": 1}), ("b", {"full_name": "c"})]
        assert world.store.repos.upsert(rows, lane=1) == 2
        (found,) = world.query("SELECT * FROM repo")
        assert found == [
            {"id": RecordID("repo", "a"), "full_name": "b", "mine": "kept", "stars": 1},
            {"id": RecordID("repo", "b"), "full_name": "c"},
        ]
        assert len(world.outbox(Lane.BACKFILL)) == 2
        assert world.store.repos.upsert([], lane=1) == 0

    def test_again_announces_nothing(self, world: World) -> None:
        rows = [(n, {"full_name": f"n{n}", "stargazers_count": n}) for n in range(3)]
        world.store.repos.upsert(rows, lane=1)
        world.store.repos.upsert([(n, {**f, "stargazers_count": 99}) for n, f in rows], lane=1)
        assert len(world.outbox()) == 3

    def test_all_or_none(self, world: World) -> None:
        world.query("DEFINE FIELD stars ON repo TYPE option<int>")
        with pytest.raises(StoreError):
            world.store.repos.upsert([(1, {"stars": 1}), (2, {"stars": "many"})], lane=0)
        assert world.query("SELECT * FROM repo") == [[]]
        assert world.outbox() == []

    def test_nothing_is_none_and_not_null(self, world: World) -> None:
        world.query("DEFINE FIELD description ON repo TYPE option<string>")
        world.store.repos.upsert([(1, {"full_name": "a", "description": None})], lane=0)
        world.settle()
        world.assert_current()

    @pytest.mark.parametrize(
        "value", [2**53 + 1, -(2**63), 2**63 - 1, 1e308, "x" * 100_000, [[[1]]], {"a": {"b": []}}]
    )
    def test_values_come_back_as_they_went(self, world: World, value: Any) -> None:
        world.store.repos.upsert([(1, {"value": value})], lane=0)
        assert world.query("SELECT VALUE `value` FROM ONLY repo:1") == [value]
