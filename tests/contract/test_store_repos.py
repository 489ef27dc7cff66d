"""`Repos`, held against each store: reading and writing the user's table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from embed_star.errors import StoreError
from embed_star.models import Key, Lane
from embed_star.store.tables.repos import RepoState
from embed_star.store.tables.vectors import BulkWrite, FailureWrite, VectorWrite
from embed_star.values import RecordID
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.servers import eventually
from tests.support.world import World

UNUSABLE: Key = ["a", datetime(2024, 1, 1, tzinfo=UTC)]


class TestLoad:
    def test_answers_in_the_order_asked_with_gaps_for_missing_rows(self, world: World) -> None:
        world.write("a", full_name="a", language="C")
        world.write("b", full_name="b", topics=["x"])
        states = world.store.repos.load(["b", "missing", "a"], "token")
        assert states == [
            RepoState("b", ("b", None, None, ["x"]), name="b"),
            RepoState("missing", None),
            RepoState("a", ("a", None, "C", None), name="a"),
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
        world.put_failure(1, space="other", text_hash="h", reason="r")
        (state,) = world.store.repos.load([1], "t")
        assert state.failed_hash is None
        assert state.recorded

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

    def test_says_whether_rows_may_follow(self, world: World) -> None:
        world.write_many(4)
        assert world.store.repos.page(None, 4).more
        assert not world.store.repos.page(None, 5).more
        assert not world.store.repos.page(3, 1).more

    def test_rows_whose_key_no_message_carries_are_named_until_they_are_noted(
        self, world: World
    ) -> None:
        world.write(UNUSABLE, full_name="x")
        world.write(1, full_name="x")
        page = world.store.repos.page(None, 9)
        assert len(page.keys) == 2
        assert [state.key for state in page.states] == [1]
        assert len(page.unnoted) == 1
        unusable = [entry.id for entry in world.outbox() if entry.key is None]
        world.store.outbox.fail_unusable(unusable, world.space)
        assert world.store.repos.page(None, 9).unnoted == []

    def test_goes_on_after_a_row_that_is_gone(self, world: World) -> None:
        world.write_many(4)
        world.delete(1)
        assert [state.key for state in world.store.repos.page(1, 9).states] == [2, 3]


class TestUpsert:
    def test_merges_and_creates(self, world: World) -> None:
        world.write("a", full_name="a", mine="kept")
        rows = [("a", {"full_name": "b", "stars": 1}), ("b", {"full_name": "c"})]
        assert world.store.repos.upsert(rows, lane=1) == 2
        assert world.repos() == [
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

    @pytest.mark.parametrize("make_world", ["server", "embedded"], indirect=True)
    def test_all_or_none(self, world: World) -> None:
        world.query("DEFINE FIELD stars ON repo TYPE option<int>")
        with pytest.raises(StoreError):
            world.store.repos.upsert([(1, {"stars": 1}), (2, {"stars": "many"})], lane=0)
        assert world.query("SELECT * FROM repo") == [[]]
        assert world.outbox() == []

    @pytest.mark.parametrize(
        "value", [2**53 + 1, -(2**63), 2**63 - 1, 1e308, "x" * 100_000, [[[1]]], {"a": {"b": []}}]
    )
    def test_values_come_back_as_they_went(self, world: World, value: Any) -> None:
        world.store.repos.upsert([(1, {"value": value})], lane=0)
        assert [repo["value"] for repo in world.repos()] == [value]

    def test_what_a_row_has_not_is_left_and_what_is_nested_is_merged(self, world: World) -> None:
        world.write(1, full_name="a", owner={"login": "me", "kind": "user"}, topics=["x", "y"])
        world.store.repos.upsert([(1, {"owner": {"login": "you"}, "topics": ["z"]})], lane=0)
        (found,) = world.repos()
        assert found["full_name"] == "a"
        assert found["owner"] == {"login": "you", "kind": "user"}
        assert found["topics"] == ["z"]


class TestTheEvent:
    def test_announces_creation_change_and_deletion(self, world: World) -> None:
        world.write(1, full_name="a", stargazers_count=1)
        world.write(1, description="changed")
        world.write(1, topics=["a"])
        world.delete(1)
        assert [entry.key for entry in world.outbox(Lane.FRESH)] == [1, 1, 1, 1]

    def test_is_silent_about_what_is_not_part_of_the_text(self, world: World) -> None:
        world.write(1, full_name="a", stargazers_count=1, topics=["x"])
        world.write(1, full_name="a", stargazers_count=2, topics=["x"], owner={"login": "b"})
        world.delete("never there")
        assert len(world.outbox()) == 1

    def test_estimates_the_length(self, world: World) -> None:
        world.write(1, full_name="a", description="x" * 5000)
        (entry,) = world.outbox()
        assert 5000 < entry.size < 5100

    def test_looks_into_nested_fields(self, make_world: MakeWorld) -> None:
        world = make_world(text_fields=("full_name", "owner.login"))
        world.write(1, owner={"login": "me"})
        world.write(1, owner={"kind": "user"})
        assert len(world.outbox()) == 1
        world.write(1, owner={"login": "you"})
        assert len(world.outbox()) == 2
        (state,) = world.store.repos.load([1], "t")
        assert state.values == (None, "you")
