"""Passages, held against each store: whole rows with a README, from the write to the search."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pytest

from embed_star.embed.passages import readme_hash
from embed_star.models import MOST_PASSAGES, Key, key_text
from embed_star.store.tables.orphans import SurrealOrphans
from embed_star.store.tables.vectors import BulkWrite, PassageWrite, VectorWrite
from tests.conftest import DIMENSIONS
from tests.support.memory_world import MemoryWorld
from tests.support.scripted_answers import vector_for
from tests.support.world import World

KEYS: list[Key] = [1, "a/b", ["x", 2], {"a": 1}, UUID("018f4f6e-0000-7000-8000-000000000001")]


def write_of(world: World, key: Key, *parts: str, run: str = "run") -> BulkWrite:
    """A write of the row `key` with a passage for each of `parts`."""
    assert all(world.store.locks.acquire([key], run, 60.0))
    passages = [PassageWrite(vector_for(part, DIMENSIONS), f"hash of {part}") for part in parts]
    vector = VectorWrite(
        key, vector_for("own", DIMENSIONS), "both", own_hash="own", passages=passages
    )
    return BulkWrite(run, vectors=[vector], locks=[key])


class TestTheWrite:
    @pytest.mark.parametrize("key", KEYS, ids=repr)
    def test_is_of_the_row_and_its_passages(self, world: World, key: Key) -> None:
        world.write(key, full_name="a/b", readme="text")
        world.store.vectors.apply(write_of(world, key, "one", "two"))
        stored = world.vectors()[key_text(key)]
        assert (stored["text_hash"], stored["own_hash"], stored["passages"]) == ("both", "own", 2)
        assert world.store.passages.count() == 2
        (state,) = world.store.passages.load([(key, 2)])
        assert state.readme == "text"
        assert set(state.vectors) == {"own", "hash of one", "hash of two"}
        np.testing.assert_array_equal(state.vectors["hash of two"], vector_for("two", DIMENSIONS))

    def test_replaces_all_that_there_were(self, world: World) -> None:
        world.write(1, full_name="a/b")
        world.write(2, full_name="c/d")
        world.store.vectors.apply(write_of(world, 1, "one", "two", "three"))
        world.store.vectors.apply(write_of(world, 2, "other"))
        write = write_of(world, 1, "two", run="run-2")
        world.store.vectors.apply(
            BulkWrite("run-2", vectors=write.vectors, stale=[1], stale_passages=[(1, 3)], locks=[1])
        )
        assert world.store.passages.count() == 2
        (one, two) = world.store.passages.load([(1, 3), (2, 3)])
        assert set(one.vectors) == {"own", "hash of two"}
        assert set(two.vectors) == {"own", "hash of other"}


class TestTheEvent:
    def test_notices_a_change_of_the_readme_alone(self, world: World) -> None:
        world.write(1, full_name="a/b", readme="text")
        world.write(1, stars=7)
        world.write(1, readme="text")
        assert len(world.outbox()) == 1
        world.write(1, readme="another")
        assert len(world.outbox()) == 2

    @pytest.mark.parametrize("odd", [7, ["a"], {"a": 1}, True], ids=repr)
    def test_and_the_state_take_a_readme_of_any_type(self, world: World, odd: Any) -> None:
        world.write(1, full_name="a/b", readme=odd)
        (state,) = world.store.repos.load([1], "run")
        assert state.readme_hash == ""

    def test_the_state_has_its_hash(self, world: World) -> None:
        for key, text in enumerate(["text", "Grüße, 漢字", "", "x" * 1_000_000]):
            world.write(key, full_name="a/b", readme=text)
            (state,) = world.store.repos.load([key], "run")
            assert state.readme_hash == readme_hash(text)

    @pytest.mark.parametrize("make_world", ["server", "embedded"], indirect=True)
    def test_a_readme_that_cannot_be_read_is_no_hindrance(self, world: World) -> None:
        world.query(
            "CREATE repo:1 CONTENT $f RETURN NONE", f={"full_name": "a/b", "readme": "a\0b"}
        )
        world.write(2, full_name="c/d", readme="text")
        states = world.store.repos.load([1, 2], "run")
        assert not any(state.unreadable for state in states)
        assert [state.values[0] for state in states if state.values] == ["a/b", "c/d"]
        one, two = world.store.passages.load([(1, 0), (2, 0)])
        assert one.readme in (None, "a\0b")
        assert two.readme == "text"


class TestTheSweep:
    @pytest.mark.parametrize("key", KEYS, ids=repr)
    def test_deletes_what_no_vector_counts(self, world: World, key: Key) -> None:
        for n, one in enumerate([key, "stays"]):
            world.write(one, full_name="a/b")
            world.store.vectors.apply(write_of(world, one, "one", "two", run=f"run-{n}"))
        orphans = orphans_of(world)
        table = world.space.passages_table
        assert orphans.sweep_passages(table, None, 10).removed == 0
        assert all(world.store.locks.acquire([key], "run", 60.0))
        world.store.vectors.apply(BulkWrite("run", stale=[key], locks=[key]))
        first = orphans.sweep_passages(table, None, 3)
        assert (len(first.keys), first.more) == (3, True)
        last = orphans.sweep_passages(table, first.keys[-1], 3)
        assert (first.removed + last.removed, last.more) == (2, False)
        assert world.store.passages.count() == 2


class TestTheSearch:
    def test_finds_enough_rows_where_one_has_many_passages(self, world: World) -> None:
        ahead = np.eye(DIMENSIONS, dtype=np.float32)[0]
        keys = list(range(6))
        for key in keys:
            world.write(key, full_name=f"a/{key}")
            assert all(world.store.locks.acquire([key], f"run-{key}", 60.0))
            parts = [
                vector_for(f"{key} {n}", DIMENSIONS) for n in range(1 if key else MOST_PASSAGES)
            ]
            near = [PassageWrite(part / 9 + (not key) * ahead, "h") for part in parts]
            vector = VectorWrite(key, -ahead, "both", own_hash="own", passages=near)
            world.store.vectors.apply(BulkWrite(f"run-{key}", vectors=[vector], locks=[key]))
        found = world.store.retrieval.nearest(ahead, len(keys), passages=True)
        assert sorted(one.repo["id"].id for one in found) == keys
        assert found[0].repo["id"].id == 0
        assert all(one.passage for one in found)


def orphans_of(world: World) -> Any:
    if isinstance(world, MemoryWorld):
        return world.store.orphans
    return SurrealOrphans(world.store.database)
