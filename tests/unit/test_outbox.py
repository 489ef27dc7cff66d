"""The times within the outbox's keys, and its records gathered by repo."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embed_star.store.tables.outbox import Entry, group, ulid_ms, ulid_of_ms

A, B, C = (letter * 26 for letter in "ABC")


class TestUlids:
    @given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
    def test_times_come_back_and_keep_their_order(self, one: int, other: int) -> None:
        assert ulid_ms(ulid_of_ms(one)) == one
        assert (ulid_of_ms(one) < ulid_of_ms(other)) == (one < other)
        assert len(ulid_of_ms(one)) == 10

    def test_the_specification_s_example_is_read(self) -> None:
        assert ulid_ms("01ARYZ6S41TSV4RRFFQ69G5FAV") == 1469918176385


def test_groups_by_repo_in_the_order_of_first_sight() -> None:
    entries = [
        Entry((0, A), "x", 1),
        Entry((0, B), 1, 2),
        Entry((0, C), "x", 9),
        Entry((1, A), "1", 4),
    ]
    assert group(entries) == [
        ("x", ((0, A), (0, C)), 9),
        (1, ((0, B),), 2),
        ("1", ((1, A),), 4),
    ]
    assert group([]) == []
