"""When things were last done, by the database's clock."""

from __future__ import annotations

from datetime import datetime

from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database

SWEPT = "swept"


class Timestamps:
    """A time by name; beside the cursors, which are of the same kind."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, name: str) -> None:
        """It is done now."""
        self._database.query("UPSERT $id SET at = time::now() RETURN NONE", id=_id(name))

    def at(self, name: str) -> datetime | None:
        """When it was done last, None: never."""
        (rows,) = self._database.query("SELECT VALUE at FROM $id", id=_id(name))
        return rows[0] if rows else None


def _id(name: str) -> object:
    return record("embedding_cursor", ["mark", name])
