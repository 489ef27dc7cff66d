"""Embedding spaces in the database, and the event that feeds the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embed_star.errors import SchemaError
from embed_star.models import Space
from embed_star.store.codec import record
from embed_star.store.pool import Database


def event_sql(text_fields: Sequence[str]) -> str:
    """The event on `repo` that announces each change of meaning.

    It fires on create, delete, and a change of a field that is part of the text. Its
    body must never fail, or it would fail the user's write: `<string>[…]` takes values of
    any type. Who writes with `$embed_star_lane` set to 1 says that it can wait.
    `text_fields` come from the settings, which allow nothing but names.
    """
    before = ", ".join(f"$before.{path}" for path in text_fields)
    after = ", ".join(f"$after.{path}" for path in text_fields)
    return (
        "DEFINE EVENT OVERWRITE embedding_outbox ON TABLE repo "
        f"WHEN $event = 'CREATE' OR $event = 'DELETE' OR [{before}] != [{after}] "
        "THEN { CREATE embedding_outbox CONTENT { "
        "id: [IF $embed_star_lane = 1 { 1 } ELSE { 0 }, rand::ulid()], "
        f"repo: $value.id, size: string::len(<string>[{after}]) }} RETURN NONE }}"
    )


class Spaces:
    """The records of `embedding_space`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure(self, space: Space, text_fields: Sequence[str]) -> bool:
        """Make `space` the active one: its record, vector table and event.

        Returns whether anything changed. Other spaces are retired; their vectors stay.
        One transaction, and doing it twice changes nothing.
        """
        fields = list(text_fields)
        active = self._active()
        if active is not None and active["id"].id == space.name:
            return False
        # space.table is [a-z0-9_] by construction (see Space.name).
        self._database.query(
            "BEGIN;"
            f"DEFINE TABLE IF NOT EXISTS {space.table} SCHEMALESS PERMISSIONS NONE;"
            "UPDATE embedding_space SET state = 'retired' WHERE state = 'active' RETURN NONE;"
            "UPSERT $id MERGE $content RETURN NONE;"
            f"{event_sql(fields)};"
            "COMMIT;",
            id=record("embedding_space", space.name),
            content={
                "provider": space.provider,
                "model": space.model,
                "dimensions": space.dimensions,
                "text_version": space.text_version,
                "text_fields": fields,
                "table": space.table,
                "state": "active",
            },
        )
        return True

    def check(self, space: Space) -> None:
        """Raise SchemaError, saying what to do, unless `space` is the active one."""
        active = self._active()
        if active is None:
            raise SchemaError("the database has no embedding space: run `embed-star migrate`")
        if active["id"].id != space.name:
            raise SchemaError(
                f"the database is embedded with {active['provider']} {active['model']} "
                f"({active['dimensions']} dimensions, fields {','.join(active['text_fields'])}) "
                "and the settings say otherwise: set EMBEDDING_* and TEXT_FIELDS to that, or run "
                "`embed-star migrate` to embed every repo anew"
            )

    def _active(self) -> dict[str, Any] | None:
        (rows,) = self._database.query("SELECT * FROM embedding_space WHERE state = 'active'")
        return rows[0] if rows else None
