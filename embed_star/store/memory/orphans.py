"""Removal of what is left of deleted repos, in memory."""

from __future__ import annotations

from embed_star.models import Key
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.tables.orphans import Swept


class MemoryOrphans:
    """`store.tables.orphans.Orphans`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def sweep(self, table: str, after: Key | None, rows: int) -> Swept:
        with self._database.transaction:
            records = self._database.table(table)
            keys = [key for key, _ in records.after(after, rows)]
            gone = [key for key in keys if key not in self._database.repos]
            for key in gone:
                records.delete(key)
        return Swept(keys, len(gone), more=len(keys) == rows)

    def sweep_passages(self, table: str, after: Key | None, rows: int) -> Swept:
        vectors = table.removesuffix("_passages")
        with self._database.transaction:
            records = self._database.passages[vectors]
            keys = [key for key, _ in records.after(after, rows)]
            stored = [self._database.vectors[vectors].get(key) for key, _ in keys]
            counts = [one.passages if one else 0 for one in stored]
            gone = [key for key, count in zip(keys, counts, strict=True) if count <= key[1]]
            for key in gone:
                records.delete(key)
        return Swept(keys, len(gone), more=len(keys) == rows)
