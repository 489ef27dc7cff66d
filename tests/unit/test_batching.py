"""How rows become calls."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.embed.batching import batches, halves


@pytest.mark.parametrize(
    ("costs", "max_rows", "max_cost", "expected"),
    [
        ([], 3, 10, []),
        ([1], 3, 10, [[1]]),
        ([1, 1, 1, 1], 3, 10, [[1, 1, 1], [1]]),
        ([1, 1, 1], 3, 10, [[1, 1, 1]]),
        ([5, 5, 5], 3, 10, [[5, 5], [5]]),
        ([5, 6], 3, 10, [[5], [6]]),
        ([99], 3, 10, [[99]]),
        ([1, 99, 1], 3, 10, [[1], [99], [1]]),
        ([99, 99], 3, 10, [[99], [99]]),
        ([0, 0, 0, 10, 0], 9, 10, [[0, 0, 0, 10, 0]]),
        ([10, 1], 9, 10, [[10], [1]]),
        ([1, 2, 3], 1, 10, [[1], [2], [3]]),
    ],
)
def test_batches_end_at_the_limit_of_rows_or_of_cost(
    costs: list[int], max_rows: int, max_cost: int, expected: list[list[int]]
) -> None:
    made = batches(costs, max_rows=max_rows, max_cost=max_cost, cost=lambda cost: cost)
    assert list(made) == expected


@given(st.lists(st.integers(0, 50)), st.integers(1, 10), st.integers(1, 60))
def test_batches_keep_every_item_and_are_as_full_as_the_limits_allow(
    costs: list[int], max_rows: int, max_cost: int
) -> None:
    items = list(enumerate(costs))
    made = list(batches(items, max_rows=max_rows, max_cost=max_cost, cost=lambda item: item[1]))
    assert [item for batch in made for item in batch] == items
    for batch in made:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or sum(cost for _, cost in batch) <= max_cost
    for batch, following in itertools.pairwise(made):  # none could have been larger
        full = len(batch) == max_rows
        assert full or sum(cost for _, cost in batch) + following[0][1] > max_cost


def test_an_endless_input_is_cut_as_it_comes() -> None:
    endless = iter(int, 1)
    assert next(batches(endless, max_rows=2, max_cost=9, cost=lambda _: 1)) == [0, 0]


@given(st.lists(st.integers(), min_size=2))
def test_halves_keep_the_order_and_differ_by_one_at_most(items: list[int]) -> None:
    left, right = halves(items)
    assert [*left, *right] == items
    assert left
    assert abs(len(left) - len(right)) <= 1
