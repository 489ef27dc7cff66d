"""What a record of a backup may be made of: data, and nothing that SurrealDB would run.

CBOR as SurrealDB reads it has tags for code: a future (15) is SurrealQL that the 2.x engines
run each time its record is read, and a record's id as a text is parsed as SurrealQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from surrealdb.data.types.record_id import RecordID

from embed_star.models import is_usable

_PLAIN = (str, int, float, bool, bytes, datetime, timedelta, UUID, type(None))


def check_record(record: Any, table: str, dimensions: int | None) -> None:
    """Raise ValueError unless `record` is one of `table`, made of plain values.

    Its vector has `dimensions` float32 numbers; None: it has none.
    """
    if not isinstance(record, dict) or not all(map(is_plain, record.items())):
        raise ValueError("no record")
    key = record.get("id")
    if not isinstance(key, RecordID) or key.table_name != table or not is_usable(key.id):
        raise ValueError("a record of another table")
    vector = record.get("vector")
    if dimensions is None:
        fits = vector is None
    else:
        fits = isinstance(vector, bytes) and len(vector) == 4 * dimensions
    if not fits:
        raise ValueError("a vector of another length")


def is_plain(value: Any) -> bool:
    """Whether `value` is data all the way down."""
    if isinstance(value, RecordID):
        return isinstance(value.table_name, str) and is_plain(value.id)
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and is_plain(one) for name, one in value.items())
    return isinstance(value, _PLAIN)
