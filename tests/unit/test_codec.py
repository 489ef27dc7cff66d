"""Frames: nothing that a server may send ends in an exception of another library."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.errors import StoreError
from embed_star.store.client import codec
from embed_star.values import NULL, Opaque, printed, spoken

Tag = cbor2.CBORTag
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.builds(Tag, st.integers(0, 60) | st.integers(86, 300), inner)
    ),
    max_leaves=10,
)


class TestDecode:
    @pytest.mark.parametrize(
        ("tagged", "shown"),
        [
            (Tag(12, [568971820800, 0]), "d'+20000-01-01T00:00:00Z'"),
            (Tag(12, [-62324985600, 500_000_000]), "d'-0005-01-01T00:00:00.500Z'"),
            (Tag(14, [2**64 - 1, 999_999_999]), "584942417355y3w5d7h15s999ms999µs999ns"),
            (Tag(10, "1.50"), "1.50dec"),
            (Tag(56, [None, Tag(6, 0), "a"]), "{NULL, NONE, 'a'}"),
            (Tag(49, [Tag(51, 1), Tag(50, 5)]), "1>..=5"),
            (Tag(88, [1.0, 2.5]), "(1, 2.5)"),
            (Tag(55, ["bucket", "/file.txt"]), 'f"bucket:/file.txt"'),
            (Tag(35, "("), "'('"),
            (Tag(0, "no date"), "'no date'"),
            (Tag(9, "no uuid"), "'no uuid'"),
            (Tag(8, 5), "5"),
            (Tag(12, ["no", "numbers"]), "['no', 'numbers']"),
            (Tag(4711, [1, Tag(6, 0)]), "[1, NONE]"),
        ],
        ids=str,
    )
    def test_keeps_what_python_cannot_hold(self, tagged: Any, shown: str) -> None:
        frame = cbor2.dumps([tagged])
        (value,) = codec.decode(frame)
        assert isinstance(value, Opaque)
        assert printed(value) == shown
        assert codec.encode([value]) == frame
        assert hash(value) == hash(codec.decode(frame)[0])

    @given(values)
    def test_takes_whatever_a_newer_server_sends(self, value: Any) -> None:
        try:
            decoded = codec.decode(cbor2.dumps(value))
        except StoreError:
            return  # a map in a map's key, and the like
        assert isinstance(printed(decoded), str)
        assert isinstance(spoken(decoded), str)

    @given(st.binary(max_size=30))
    def test_says_what_is_no_frame(self, frame: bytes) -> None:
        try:
            codec.decode(frame)
        except StoreError as error:
            assert "cannot be read" in str(error)  # noqa: PT017 - or it is one

    def test_says_what_is_nested_too_deeply(self) -> None:
        with pytest.raises(StoreError, match="cannot be read"):
            codec.decode(b"\x81" * 1000 + b"\x01")


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            *(1, "a", [NULL, "a"], [None, "a"], {"a": NULL}, {"a": None}, [[NULL], {"b": [None]}]),
            [Opaque(12, (5, 123_456_789))],
            [Opaque(56, (NULL, None, 1))],
            [Opaque(14, (2**64 - 1, 1))],
        ],
        ids=str,
    )
    def test_come_back_as_they_went(self, key: Any) -> None:
        encoded = codec.encode_key(key)
        assert codec.encode_key(codec.decode_key(encoded)) == encoded
        assert printed(codec.decode_key(encoded)) == printed(key)

    def test_with_null_and_with_none_are_two(self) -> None:
        assert codec.encode_key([NULL]) != codec.encode_key([None])

    def test_that_are_none_are_refused(self) -> None:
        with pytest.raises(StoreError):
            codec.decode_key(codec.encode(5))
