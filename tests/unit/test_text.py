"""The text of a repo: every odd value, the cut, the hash."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.embed.text import (
    BYTES_PER_TOKEN,
    cut,
    estimate_tokens,
    query_hash,
    render,
    text_hash,
    text_version,
)
from embed_star.values import Opaque, RecordID

MANY = 100_000

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # lone surrogates too
    | st.binary()
    | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


class TestRender:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ""),
            (True, ""),
            (False, ""),
            ("", ""),
            (" \n\t ", ""),
            ("\0", ""),
            ("a\0b\0", "ab"),
            ("  kept inside  words ", "kept inside  words"),
            (0, "0"),
            (-7, "-7"),
            (1.5, "1.5"),
            (float("nan"), "nan"),
            (Decimal("1.10"), "1.10"),
            ([], ""),
            ({}, ""),
            (["a", "b"], "a, b"),
            (["a", None, "", True, " ", "b"], "a, b"),
            (("a", ["b", ["c"]]), "a, b, c"),
            ({"x": "a", "y": {"z": "b"}, "n": None}, "a, b"),
            ("👩‍👩‍👧‍👦 family", "👩‍👩‍👧‍👦 family"),
            ("مرحبا עולם", "مرحبا עולם"),
            ("\u202eflipped", "\u202eflipped"),
            ("漢字", "漢字"),
            ("lone \ud800 surrogate", "lone ? surrogate"),
            (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
            (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29 00:00:00+00:00"),
            (timedelta(hours=1), "1:00:00"),
            (RecordID("owner", "x"), "owner:x"),
            (b"text", "text"),
            (b"\xff", 'b"FF"'),
            (RecordID("owner", ["x", 1]), "owner:['x', 1]"),
            (Opaque(10, "1.10"), "1.10"),
            (Opaque(12, (568971820800, 0)), "+20000-01-01T00:00:00Z"),
            (Opaque(56, ("b", 1)), "{'b', 1}"),
            ([Opaque(88, (1.0, 2.5)), "a", 1.0], "(1, 2.5), a, 1.0"),
        ],
        ids=repr,
    )
    def test_a_value_is_shown_by_its_kind(self, value: Any, text: str) -> None:
        assert render([value], MANY) == text

    def test_a_line_for_each_value_that_says_something(self) -> None:
        assert render(["a", None, "", ["b", "c"], "d"], MANY) == "a\nb, c\nd"

    def test_values_that_say_nothing_make_an_empty_text(self) -> None:
        assert render([], MANY) == ""
        assert render([None, "", [], {}], MANY) == ""

    def test_one_value_and_two_are_not_confused(self) -> None:
        assert render(["a", "b"], MANY) != render([["a", "b"]], MANY)

    @given(st.lists(anything, max_size=5), st.integers(1, 50))
    def test_any_value_makes_a_text_within_the_limit(
        self, values: list[Any], max_tokens: int
    ) -> None:
        text = render(values, max_tokens)
        assert render(values, max_tokens) == text
        assert len(text.encode()) <= max_tokens * BYTES_PER_TOKEN
        assert "\0" not in text
        assert text == text.strip()
        assert len(text_hash(text)) == 32


class TestCut:
    @pytest.mark.parametrize("character", ["a", "ü", "漢", "😀"])
    def test_a_megabyte_never_in_the_middle_of_a_character(self, character: str) -> None:
        text = "x" + character * (1_000_000 // len(character.encode()))
        shorter = cut(text, 1000)
        assert text.startswith(shorter)
        assert shorter == cut(text, 1000)
        assert 3000 - 4 < len(shorter.encode()) <= 3000

    @given(st.text(), st.integers(1, 20))
    def test_is_a_beginning_of_the_text(self, text: str, max_tokens: int) -> None:
        shorter = cut(text, max_tokens)
        assert shorter in text
        assert len(shorter.encode()) <= max_tokens * BYTES_PER_TOKEN
        assert cut(shorter, max_tokens) == shorter

    @given(st.text())
    def test_leaves_what_fits(self, text: str) -> None:
        assert cut(text, len(text.encode()) + 1) == text.strip()

    def test_what_comes_after_it_does_not_matter(self) -> None:
        assert cut("a" * 300 + "b", 100) == cut("a" * 300 + "c" * 1000, 100)


class TestHash:
    def test_is_the_same_for_ever(self) -> None:
        # Stored in databases: another value would embed every repo anew.
        assert text_hash("") == "cae66941d9efbd404e4d88758ea67670"
        assert text_hash("über") == text_hash("u\u0308ber".replace("u\u0308", "ü"))

    @given(st.text(), st.text())
    def test_tells_texts_apart(self, one: str, other: str) -> None:
        assert (text_hash(one) == text_hash(other)) == (one == other)

    def test_of_the_version_names_what_shapes_a_text(self) -> None:
        versions = {
            text_version(["a", "b"], 100),
            text_version(["b", "a"], 100),
            text_version(["a,b"], 100),
            text_version(["a", "b"], 101),
            text_version(["a", "b"], 100, "passage: "),
            text_version(["a", "b"], 100, "other: "),
        }
        assert len(versions) == 6
        assert text_version(("a", "b"), 100) == text_version(["a", "b"], 100)
        # Of a model that wants nothing before a text, it is what it was before there were prefixes.
        assert text_version(["a", "b"], 100) == "3d8205f784619623"

    @given(st.text(), st.text())
    def test_of_a_query_is_that_of_no_text_and_depends_on_its_prefix(
        self, one: str, other: str
    ) -> None:
        assert query_hash(one) != text_hash(one)
        assert query_hash(one, "query: ") not in (query_hash(one), text_hash(f"query: {one}"))
        assert (query_hash(one) == query_hash(other)) == (one == other)


@given(st.text(min_size=1))
def test_estimates_are_high_and_grow(text: str) -> None:
    assert estimate_tokens(text) >= 1
    assert estimate_tokens(text + "漢字") > estimate_tokens(text)
    assert estimate_tokens(text) * BYTES_PER_TOKEN >= len(text.encode())
