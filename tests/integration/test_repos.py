"""Reading and writing the user's table, whatever is in it."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from surrealdb.data.types.record_id import RecordID

from embed_star.errors import StoreError
from embed_star.models import Key, Lane, Status, key_text
from embed_star.store.repos import RepoState
from embed_star.store.vectors import BulkWrite, FailureWrite, VectorWrite
from embed_star.text import text_hash
from tests.conftest import DIMENSIONS
from tests.support.scripted_answers import vector_for
from tests.support.servers import eventually
from tests.support.world import World

HOSTILE = [
    "'; REMOVE TABLE repo; --",
    '"; REMOVE TABLE repo; --',
    "⟩; REMOVE TABLE repo; --",
    "⟨x⟩",
    "`x`; REMOVE TABLE repo",
    "a\nb\r\tc\\",
    "$owner",
    "repo:1",
    "1",
    "/* x",
    "-- x",
    "{ THROW 'x' }",
    "\u202e\u2028🙂",
    "'",
    " ",
]


class TestLoad:
    def test_in_order_with_what_is_missing(self, world: World) -> None:
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

    def test_no_keys(self, world: World) -> None:
        assert world.store.repos.load([], "t") == []


class TestPage:
    def test_walks_in_key_order(self, world: World) -> None:
        world.write_many(7)
        repos = world.store.repos
        first = repos.page(None, 3)
        assert [state.key for state in first] == [0, 1, 2]
        assert first[1].values == ("owner/name1", None, None, None)
        assert [state.key for state in repos.page(2, 3)] == [3, 4, 5]
        assert [state.key for state in repos.page(5, 3)] == [6]
        assert repos.page(6, 3) == []

    def test_goes_on_after_a_row_that_is_gone(self, world: World) -> None:
        world.write_many(4)
        world.delete(1)
        assert [state.key for state in world.store.repos.page(1, 9)] == [2, 3]


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


class TestARowThatCannotBeRead:
    """Engine 2.3.10 takes a string with a NUL, and fails every query that would read it."""

    def write_nul(self, world: World) -> None:
        fields = {"full_name": "a\0b"}
        world.query(
            "UPSERT $id MERGE $fields RETURN NONE", id=RecordID("repo", "nul"), fields=fields
        )

    def test_stops_no_neighbour(self, world: World) -> None:
        world.write_many(5)
        self.write_nul(world)
        world.settle()
        assert {str(n) for n in range(5)} <= set(world.vectors())
        settled = {**world.vectors(), **world.failures()}
        assert '"nul"' in settled
        assert world.outbox() == []

    def test_is_healed_when_it_is_mended(self, world: World) -> None:
        self.write_nul(world)
        world.settle()
        world.query("UPSERT repo:nul MERGE { full_name: 'fine' } RETURN NONE")
        world.settle()
        world.assert_current()
        assert world.failures() == {}

    def test_is_found_once_by_reconciling(self, world: World) -> None:
        self.write_nul(world)
        world.settle()
        reconciler = world.services.reconciler
        progress = reconciler.begin()
        while progress.phase != "done":
            progress = reconciler.step(progress)
        assert progress.found == 0


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
hostile = st.sampled_from(HOSTILE) | words
row_keys = (
    hostile.filter(bool)
    | st.integers(-(2**63), 2**63 - 1)
    | st.uuids()
    | st.lists(hostile | st.integers(-1000, 1000), min_size=1, max_size=3)
    | st.dictionaries(words.filter(bool), hostile, min_size=1, max_size=3)
)


class TestInjection:
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        derandomize=True,
    )
    @given(
        st.dictionaries(row_keys.map(key_text), st.tuples(hostile, hostile), max_size=6).map(dict),
        st.data(),
    )
    @example({}, None)
    def test_data_stays_data_all_the_way(
        self, world: World, rows: dict[str, tuple[str, str]], data: Any
    ) -> None:
        """Written, embedded, found and deleted, whatever is in ids, names, descriptions."""
        import json

        from embed_star.models import key_from_json

        keys: dict[str, Key] = {name: key_from_json(json.loads(name)) for name in rows}
        canary = {"full_name": "canary"}
        world.store.repos.upsert([("canary", canary)], lane=0)
        world.store.repos.upsert(
            [(keys[k], {"full_name": n, "description": d}) for k, (n, d) in rows.items()], lane=1
        )
        world.settle()
        world.assert_current()
        embedded = world.vectors()
        for name, (full_name, description) in rows.items():
            text = world.text_of(full_name=full_name, description=description)
            if not text:
                assert world.failures()[name]["reason"] == "empty_text"
                continue
            assert embedded[name]["text_hash"] == text_hash(text)
            hits = world.store.vectors.search(vector_for(text, DIMENSIONS), len(rows) + 1)
            assert math.isclose(hits[0].score, 1.0, abs_tol=1e-4)
            assert name in {key_text(hit.repo["id"].id) for hit in hits}
        for key in keys.values():
            if key != "canary":
                world.delete(key)
        world.settle()
        world.assert_current()
        assert [row["id"].id for row in world.query("SELECT * FROM repo")[0]] == ["canary"]
        world.query("DELETE repo:canary")

    @pytest.mark.parametrize("token", HOSTILE)
    def test_tokens_and_names_too(self, world: World, token: str) -> None:
        world.write("x", full_name="x")
        locks = world.store.locks
        assert locks.acquire([token, "x"], token, 60.0) == [True, True]
        assert locks.held([token, "x"], token) == [True, True]
        world.store.vectors.apply(
            BulkWrite(token, failures=[FailureWrite("x", token, token)], locks=["x", token])
        )
        assert world.failures()['"x"']["reason"] == token
        assert world.store.failures.by_reason() == {token: 1}
        world.store.failures.release(["x"])
        assert world.failures() == {}
        assert len(world.outbox()) == 2


def test_failures_are_paged_in_key_order(world: World) -> None:
    keys: list[Key] = [1, 2, "a", UUID(int=1), ["x", 1]]
    world.store.locks.acquire(keys, "t", 60.0)
    failed = [FailureWrite(key, f"h{n}", "rejected") for n, key in enumerate(keys)]
    world.store.vectors.apply(BulkWrite("t", failures=failed, locks=keys))
    world.query("CREATE embedding_failure:zz SET space = 'other', reason = 'r', attempts = 1")
    failures = world.store.failures
    assert [one.key for one in failures.page(None, 10)] == keys
    walked: list[Key] = []
    while page := failures.page(walked[-1] if walked else None, 2):
        walked += [one.key for one in page]
    assert walked == keys
    assert (page := failures.page(None, 1))[0].reason == "rejected"
    assert (page[0].text_hash, page[0].attempts) == ("h0", 1)
    assert page[0].at.tzinfo is not None
    assert failures.by_reason() == {"rejected": 5}


def test_a_released_failure_is_tried_again(world: World) -> None:
    world.provider.rejects = lambda _: True
    world.write(1, full_name="x")
    world.settle()
    world.provider.rejects = lambda _: False
    world.store.failures.release([1])
    assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
    world.assert_current()
