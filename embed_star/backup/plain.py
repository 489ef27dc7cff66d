"""Checks that a record of a backup is plain data, so that SurrealDB runs none of it.

SurrealDB's CBOR has tags for code. For example, tag 15 is a future: SurrealQL that the 2.x
engines run each time its record is read. A record's id as a text is parsed as SurrealQL too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from embed_star.backup.manifest import FAILURES, PASSAGES
from embed_star.models import MOST_PASSAGES, is_int64, is_usable
from embed_star.values import RecordID

_PLAIN = (str, float, bool, bytes, datetime, timedelta, UUID, type(None))

_OF_A_FAILURE: Mapping[str, type] = {
    "space": str,
    "reason": str,
    "text_hash": str,
    "attempts": int,
    "at": datetime,
}


def check_record(record: Any, table: str, dimensions: int | None) -> None:
    """Raise ValueError unless `record` is one of `table` and made of plain values.

    Its vector must have `dimensions` float32 numbers; None: it must have no vector.
    """
    if not isinstance(record, dict) or not all(map(is_plain, record.items())):
        raise ValueError("no record")
    key = record.get("id")
    if not isinstance(key, RecordID) or key.table_name != table or not is_usable(key.id):
        raise ValueError("a record of another table")
    kinds = _OF_A_FAILURE if table == FAILURES else {}
    if any(type(record.get(name)) is not kind for name, kind in kinds.items()):
        raise ValueError("no failure")
    vector = record.get("vector")
    if dimensions is None:
        fits = vector is None
    else:
        fits = isinstance(vector, bytes) and len(vector) == 4 * dimensions
    if not fits:
        raise ValueError("a vector of another length")
    if PASSAGES in record:
        _check_passages(record[PASSAGES], dimensions)


def _check_passages(passages: Any, dimensions: int | None) -> None:
    if not isinstance(passages, list) or len(passages) > MOST_PASSAGES or dimensions is None:
        raise ValueError("no list of passages")
    for one in passages:
        if not isinstance(one, dict) or type(one.get("text_hash")) is not str:
            raise ValueError("no passage")
        if type(one.get("vector")) is not bytes or len(one["vector"]) != 4 * dimensions:
            raise ValueError("a passage's vector of another length")


def is_plain(value: Any) -> bool:
    """Whether `value`, with all that it contains, is plain data."""
    if isinstance(value, RecordID):
        return isinstance(value.table_name, str) and is_usable(value.id)
    if isinstance(value, int):
        return is_int64(value)
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and is_plain(one) for name, one in value.items())
    return isinstance(value, _PLAIN)
