"""SurrealQL in ids, names and descriptions stays data all the way."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embed_star.embed.text import text_hash
from embed_star.models import Key, key_from_json, key_text
from embed_star.store.tables.vectors import BulkWrite, FailureWrite
from tests.conftest import DIMENSIONS
from tests.support.scripted_answers import vector_for
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
    @given(st.dictionaries(row_keys.map(key_text), st.tuples(hostile, hostile), max_size=6))
    @example({json.dumps(text): (text, text) for text in HOSTILE})
    def test_data_stays_data_all_the_way(
        self, world: World, rows: dict[str, tuple[str, str]]
    ) -> None:
        """Written, embedded, found and deleted, whatever is in ids, names, descriptions."""
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
            hits = world.store.retrieval.nearest(vector_for(text, DIMENSIONS), len(rows) + 1)
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
        assert world.store.failures.by_reason() == {}
        assert len(world.outbox()) == 2
