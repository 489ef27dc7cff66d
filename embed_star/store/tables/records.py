"""Whole records of our own tables, read and inserted by backups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.connection import FENCE
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after
from embed_star.values import Table

Record = dict[str, Any]


class Records:
    """Reads pages of records and inserts them. Binds a table's name as a value, never as text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, table: str) -> int:
        """The number of records in `table`. Reads only keys, but all of them."""
        (rows,) = self._database.query("SELECT count() FROM $table GROUP ALL", table=Table(table))
        return int(rows[0]["count"]) if rows else 0

    def page(self, table: str, after: Key | None, rows: int) -> list[Record]:
        """The next `rows` records in key order; `after` None begins at the first."""
        source, bound = records_after(self._database, table, after)
        (found,) = self._database.query(f"SELECT * FROM {source} LIMIT $rows", rows=rows, **bound)
        return list(found)

    def passages(self, space: Space, keys: Sequence[tuple[Key, int]]) -> dict[str, list[Record]]:
        """The passages of rows, in order, by `key_text`; `keys` say how many each has."""
        (found,) = self._database.query(
            "SELECT id, run, text_hash, vector FROM $passages",
            passages=[
                record(space.passages_table, [key, n]) for key, most in keys for n in range(most)
            ],
        )
        by_key: dict[str, list[Record]] = {}
        for one in sorted(found, key=lambda one: int(one["id"].id[1])):
            by_key.setdefault(key_text(one["id"].id[0]), []).append(one)
        return by_key

    def with_vector(self, table: str, keys: Sequence[Key]) -> set[str]:
        """The `key_text` of each of `keys` that has a vector in `table`."""
        (found,) = self._database.query(
            "SELECT VALUE id FROM $vectors", vectors=[record(table, key) for key in keys]
        )
        return {key_text(one.id) for one in found}

    def failed(self, keys: Sequence[Key], space: str | None = None) -> set[str]:
        """The `key_text` of each of `keys` that failed, in `space` or, with None, in any."""
        (found,) = self._database.query(
            "SELECT VALUE id FROM $failures WHERE space = $space OR $space = NONE",
            failures=[record("embedding_failure", key) for key in keys],
            space=space,
        )
        return {key_text(one.id) for one in found}

    def add(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        locks: Sequence[Key],
        token: str,
        passages: tuple[str, Sequence[Mapping[str, Any]]] = ("", ()),
    ) -> None:
        """Insert `rows` into `table`, and `passages` into theirs, and release `locks`, in one
        transaction.

        Raises FenceLost when `token` does not hold one of the locks, and AlreadyExists when
        a record exists; nothing is changed then.
        """
        self._database.query(
            "BEGIN;"
            "LET $held = (SELECT VALUE id FROM $locks WHERE token = $owner);"
            f"IF array::len($held) != $count {{ THROW '{FENCE}' }};"
            "INSERT INTO $table $rows RETURN NONE;"
            "IF $passages != [] { INSERT INTO $passages_table $passages RETURN NONE };"
            "DELETE $locks RETURN NONE;"
            "COMMIT",
            table=Table(table),
            rows=[dict(one) for one in rows],
            passages_table=Table(passages[0] or table),
            passages=[dict(one) for one in passages[1]],
            locks=[record("embedding_lock", key) for key in locks],
            count=len(locks),
            owner=token,
        )
