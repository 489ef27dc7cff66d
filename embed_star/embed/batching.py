"""Divides rows into batches for provider calls. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], *, max_rows: int, max_cost: int, cost: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Divide `items`, in order, into lists of at most `max_rows` items and `max_cost` in sum.

    An item that alone costs more than `max_cost` becomes a list of its own.
    """
    batch: list[Item] = []
    spent = 0
    for item in items:
        price = cost(item)
        if batch and (len(batch) >= max_rows or spent + price > max_cost):
            yield batch
            batch, spent = [], 0
        batch.append(item)
        spent += price
    if batch:
        yield batch


def halves(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """`items` in two halves; of an odd number, the second half has one more."""
    middle = len(items) // 2
    return items[:middle], items[middle:]
