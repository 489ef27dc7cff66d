"""One table in memory: its records by key, in SurrealDB's order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from embed_star.models import Key
from embed_star.store.memory.key_order import KeyOrder, key_order

R = TypeVar("R")


class MemoryTable(Generic[R]):
    """Records of one kind. Not thread-safe by itself: see `MemoryDatabase.transaction`."""

    def __init__(self) -> None:
        self._orders: list[KeyOrder] = []
        self._records: dict[KeyOrder, tuple[Key, R]] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, key: Key) -> bool:
        return key_order(key) in self._records

    def __iter__(self) -> Iterator[tuple[Key, R]]:
        """Keys and records, in order."""
        return iter([self._records[order] for order in self._orders])

    def get(self, key: Key) -> R | None:
        """The record with `key`, if there is one."""
        found = self._records.get(key_order(key))
        return None if found is None else found[1]

    def put(self, key: Key, record: R) -> None:
        """Make `record` the one with `key`."""
        order = key_order(key)
        if order not in self._records:
            insort(self._orders, order)
        self._records[order] = (key, record)

    def delete(self, key: Key) -> None:
        """Remove the record with `key`, if there is one."""
        order = key_order(key)
        if self._records.pop(order, None) is not None:
            del self._orders[bisect_left(self._orders, order)]

    def after(self, key: Key | None, rows: int) -> list[tuple[Key, R]]:
        """The next `rows` records in order; `key` None begins at the first."""
        start = 0 if key is None else bisect_right(self._orders, key_order(key))
        return [self._records[order] for order in self._orders[start : start + rows]]
