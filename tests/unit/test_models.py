"""Values on their way through messages, and the names of spaces."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.models import (
    MESSAGE_VERSION,
    Batch,
    Outcome,
    Pending,
    Space,
    Status,
    is_usable,
    key_from_json,
    key_text,
    key_to_json,
)
from embed_star.values import NULL, Opaque, RecordID, Table, printed

scalars = (
    st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.uuids()
    | st.none()
    | st.just(NULL)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: str(one) != "-0.0")
)
keys = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4)
    ),
    max_leaves=8,
)
ulids = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26)
outbox = st.lists(st.tuples(st.sampled_from([0, 1]), ulids), max_size=3).map(tuple)
pending = st.builds(Pending, keys, outbox)
outcomes = st.builds(
    Outcome,
    pending,
    st.sampled_from(Status),
    text_hash=st.text("0123456789abcdef", max_size=32),
    replaces=st.booleans(),
    heals=st.booleans(),
    reason=st.text(max_size=20),
    source=st.text(max_size=5),
    own_hash=st.text("0123456789abcdef", max_size=32),
    passages=st.lists(st.text("0123456789abcdef", max_size=32), max_size=4).map(tuple),
    old_passages=st.integers(0, 32),
    left_out=st.integers(0, 32),
)
batches = st.builds(
    Batch, st.text(), st.text(), st.text(), st.lists(pending, max_size=4).map(tuple)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def nested(depth: int) -> Any:
    """A key of arrays within each other."""
    return [nested(depth - 1)] if depth else []


def _sorted(key: Any) -> Any:
    """`key` with the fields of its objects in order."""
    if isinstance(key, dict):
        return {name: _sorted(key[name]) for name in sorted(key)}
    return [_sorted(part) for part in key] if isinstance(key, list | tuple) else key


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value))


class TestKeys:
    @given(keys)
    def test_come_back_from_a_message_as_they_went(self, key: Any) -> None:
        assert key_from_json(over_the_wire(key_to_json(key))) == key

    @given(keys, keys)
    def test_texts_are_equal_exactly_for_equal_keys(self, one: Any, other: Any) -> None:
        # By their print, since Python says that 1 == 1.0, and SurrealDB that they are two keys.
        same = printed(_sorted(one)) == printed(_sorted(other))
        assert (key_text(one) == key_text(other)) == same
        assert key_text(one) == key_text(key_from_json(json.loads(key_text(one))))

    def test_that_look_alike_have_different_texts(self) -> None:
        a_uuid = UUID(int=1)
        alike = [1, "1", [1], ["1"], {"1": 1}, a_uuid, str(a_uuid), {"uuid": str(a_uuid)}, [], {}]
        alike += [[1.0], [True], ["true"], [None], [NULL], ["NULL"], ["NONE"], [{"null": True}]]
        assert len({key_text(key) for key in alike}) == len(alike)

    def test_the_order_of_an_object_s_fields_does_not_count(self) -> None:
        assert key_text({"a": 1, "b": 2}) == key_text({"b": 2, "a": 1})

    def test_a_tuple_is_an_array(self) -> None:
        assert key_text((1, (2,))) == key_text([1, [2]])

    @pytest.mark.parametrize(
        "value",
        [
            {},
            [],
            [1],
            {"a": 1, "b": 2},
            {"other": 1},
            {"uuid": "x"},
            {"uuid": 5},
            {"array": 5},
            {"array": None},
            {"object": 5},
            {"object": ["a"]},
            {"null": None},
        ],
        ids=repr,
    )
    def test_anything_that_is_no_key_is_refused(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r".+"):
            key_from_json(value)

    @pytest.mark.parametrize(
        "part",
        [
            *(float("nan"), float("inf"), -0.0, b"bytes", datetime(2024, 1, 1, tzinfo=UTC)),
            *(timedelta(1), Decimal(1), RecordID("a", 1), Table("a"), Opaque(56, (1,))),
            nested(40),
        ],
        ids=repr,
    )
    def test_that_no_message_can_carry_are_refused(self, part: Any) -> None:
        assert not is_usable([part])
        assert not is_usable({"a": [part]})
        with pytest.raises(TypeError):
            Pending([part], ()).to_json()


class TestBatch:
    @given(batches)
    def test_comes_back_from_a_message_as_it_went(self, batch: Batch) -> None:
        assert Batch.from_json(over_the_wire(batch.to_json())) == batch

    def test_carries_ids_only(self) -> None:
        batch = Batch("run", "c", "space", (Pending("a", ((0, "0" * 26),), size=123),))
        assert batch.to_json() == {
            "v": 1,
            "run_id": "run",
            "correlation_id": "c",
            "space": "space",
            "rows": [["a", [[0, "0" * 26]]]],
        }

    @pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
    def test_of_another_version_is_refused(self, version: Any) -> None:
        message = Batch("run", "c", "space", ()).to_json() | {"v": version}
        with pytest.raises(ValueError, match=f"expected {MESSAGE_VERSION}"):
            Batch.from_json(message)

    @pytest.mark.parametrize("missing", ["v", "run_id", "correlation_id", "space", "rows"])
    def test_with_something_missing_is_refused(self, missing: str) -> None:
        message = Batch("run", "c", "space", ()).to_json()
        del message[missing]
        with pytest.raises(ValueError, match=r".+"):
            Batch.from_json(message)

    @given(json_values)
    def test_anything_else_is_refused_in_words(self, value: Any) -> None:
        for message in (
            value,
            {"v": 1, "run_id": "", "correlation_id": "", "space": "", "rows": value},
        ):
            try:
                batch = Batch.from_json(message)
            except ValueError:
                continue
            assert isinstance(batch.rows, tuple)


class TestOutcome:
    @given(outcomes)
    def test_comes_back_from_a_message_as_it_went(self, outcome: Outcome) -> None:
        wire = over_the_wire(outcome.to_json())
        assert Outcome.from_json(wire) == replace(outcome, row=replace(outcome.row, size=0))

    @given(json_values)
    def test_anything_else_is_refused_in_words(self, value: Any) -> None:
        for message in (
            value,
            ["k", [], value, "", 0, ""],
            [value, value, "embedded", "", 0, ""],
            ["k", [[value, ""]], "embedded", "", value, ""],
            ["k", [], "embedded", "", 0, "", "", "", value],
            ["k", [], "embedded", "", 0, "", value, value, ["", value, value, value]],
        ):
            try:
                assert isinstance(Outcome.from_json(message).status, Status)
            except ValueError:
                continue

    def test_what_a_later_version_adds_is_overlooked_and_what_an_earlier_one_lacks(self) -> None:
        row = Pending("k", ())
        plain = Outcome(row, Status.CACHED, "hash", source="s", name="n")
        for outcome in (Outcome(row, Status.GONE), plain, replace(plain, passages=("one",))):
            assert Outcome.from_json([*outcome.to_json(), "added"]) == outcome
        message = plain.to_json()
        assert Outcome.from_json(message[:-1]) == plain
        assert Outcome.from_json(message[:-3]) == replace(plain, source="", name="")


class TestSpace:
    @given(st.text(min_size=1), st.integers(1, 65535), st.text())
    def test_names_are_safe_as_tables(self, model: str, dimensions: int, version: str) -> None:
        for provider in ("ollama", "openai", "together", "local"):
            space = Space(provider, model, dimensions, version)
            assert re.fullmatch(r"[a-z0-9_]{1,80}", space.name)
            assert space.table == f"embedding_{space.name}"

    def test_whatever_differs_gives_another_name(self) -> None:
        space = Space("openai", "a/b", 3, "v1")
        others = [
            replace(space, provider="together"),
            replace(space, model="a_b"),
            replace(space, model="A/B"),
            replace(space, dimensions=4),
            replace(space, text_version="v2"),
        ]
        assert len({one.name for one in (space, *others)}) == 6

    def test_the_name_is_the_same_for_ever(self) -> None:
        # It names a table full of vectors that were paid for.
        space = Space("local", "wordllama-l2-supercat", 256, "v")
        assert space.name.startswith("local_wordllama_l2_supercat_256_")
        assert space.name == Space("local", "wordllama-l2-supercat", 256, "v").name
