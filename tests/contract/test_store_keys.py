"""Keys of every type, held against each store: their order, and what comes after each."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.models import Key, key_text
from embed_star.store.memory.key_order import key_order
from tests.support.world import World

IN_ORDER: list[Key] = [
    *(-(2**63), -1, 3, 20, "", "10", "3", "a", "a b", "b", "⟨x⟩`", UUID(int=1), UUID(int=2)),
    *(["a", None], ["a", 1], ["a", 2], ["a", "b"], ["a", [2]], ["b", 0]),
    *({"n": 1}, {"n": 1, "o": 0}, {"n": {"x": [UUID(int=3)]}}, {"o": 0}),
]
IN_ORDER_SINCE_3: list[Key] = [[], [-1], ["a"], ["a", 1], ["a", 1.5], ["a", 2], ["a", [2]], ["b"]]
"""2.x has an array behind those that it begins, and whole numbers before all others."""


def walked(world: World, rows: int) -> list[str]:
    keys: list[Key] = []
    while page := world.store.repos.page(keys[-1] if keys else None, rows).keys:
        keys += page
    return list(map(key_text, keys))


@pytest.mark.parametrize("in_order", [IN_ORDER, IN_ORDER_SINCE_3])
def test_a_walk_meets_each_key_once_in_one_order(world: World, in_order: list[Key]) -> None:
    for key in reversed(in_order):
        world.write(key, full_name="x")
    wanted = list(map(key_text, in_order))
    found = walked(world, 100)
    assert sorted(found) == sorted(wanted)
    assert walked(world, 3) == found
    if in_order is IN_ORDER or not is_of_2(world):
        assert found == wanted


def is_of_2(world: World) -> bool:
    return getattr(world.store.database, "version", (3,)) < (3,)


def test_what_comes_after_a_key_that_is_there_or_not(world: World) -> None:
    for key in IN_ORDER[::2]:
        world.write(key, full_name="x")
    left = list(map(key_text, IN_ORDER[::2]))
    for place, key in enumerate(IN_ORDER):
        after = list(map(key_text, world.store.repos.page(key, 100).keys))
        assert after == left[place // 2 + 1 :], key


def test_keys_that_look_alike_are_different_ones(world: World) -> None:
    alike: list[Key] = [1, "1", [1], [1.5], ["1"], {"1": 1}, UUID(int=1), str(UUID(int=1))]
    for number, key in enumerate(alike):
        world.write(key, full_name=f"name {number}")
    states = world.store.repos.load(alike, "t")
    assert [state.values and state.values[0] for state in states] == [
        f"name {number}" for number in range(len(alike))
    ]


KEYS = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.text(max_size=4) | st.uuids(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts),
    max_leaves=6,
)


@given(KEYS, KEYS)
def test_the_order_in_memory_is_total_and_tells_keys_apart(one: Key, other: Key) -> None:
    order, another = key_order(one), key_order(other)
    assert (order < another) + (another < order) + (order == another) == 1
    assert (order == another) == (one == other)
