"""Keyset pagination: the source of a page of records, for every table and server version."""

from __future__ import annotations

from typing import Any

from embed_star.models import Key
from embed_star.store.client.codec import KeysAfter, record
from embed_star.store.client.pool import Database
from embed_star.values import Table


def records_after(database: Database, table: str, key: Key | None) -> tuple[str, dict[str, Any]]:
    """The source of a SELECT, and its parameters: the records of `table` after `key`.

    With `key` None, it is the whole table. For example, on server 3:

        type::record($table, $after>..)    {"table": "repo", "after": "a/b"}

    Server 3 reads a range that is bound as a value to its end, whatever the LIMIT: a page of
    500 in a table of 20,000 vectors took 1.3 s, and takes 0.03 s this way. 2.x reads both
    equally fast, but takes no UUID here.
    """
    if key is None:
        return "$source", {"source": Table(table)}
    if database.version >= (3,):
        return "type::record($table, $after>..)", {"table": table, "after": key}
    return "$source", {"source": KeysAfter(table, key)}


def record_alone(database: Database, table: str, key: Key) -> tuple[str, dict[str, Any]]:
    """The source of a SELECT, and its parameters: the record of `table` with `key`.

    Server 3 takes a set for an array in a record that is bound as a value. It finds a key
    with a set in it only by a range.
    """
    if database.version >= (3,):
        return "type::record($table, $key..=$key)", {"table": table, "key": key}
    return "$source", {"source": record(table, key)}
