"""The order in which SurrealDB 3 keeps the keys of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from embed_star.models import Key
from embed_star.values import Null, printed

KeyOrder = tuple[Any, ...]

_BY_TYPE = ((type(None), 0), (Null, 1), (bool, 2), (int | float, 3), (str, 4), (UUID, 7))


def key_order(key: Key) -> KeyOrder:
    """A value that sorts as SurrealDB 3 sorts `key`, and is equal for equal keys only.

    Numbers come before texts, then UUIDs, arrays and objects; an array that begins another one
    comes before it. Example: 2 < 10 < "1" < "a" < ["a"] < ["a", 1] < {"a": 1}.
    Keys that are not usable (`models.is_usable`) come last, as they are printed.
    """
    if isinstance(key, list | tuple):
        return (8, tuple(key_order(part) for part in key))
    if isinstance(key, Mapping):
        return (9, tuple((name, key_order(part)) for name, part in sorted(key.items())))
    for kind, rank in _BY_TYPE:
        if isinstance(key, kind):
            # 1 and 1.0 stand side by side, and are two keys.
            return (rank, 0) if rank < 2 else (rank, key, isinstance(key, float))
    return (10, printed(key))
