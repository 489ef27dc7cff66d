"""The event on `repo` that feeds the outbox."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from embed_star.store.client.quoting import quoted, quoted_path
from embed_star.store.tables.passages import announced_fields

EVENT = "embedding_outbox"
"""The event's name. The table that it writes to has the same."""


def event_sql(text_fields: Sequence[str]) -> str:
    """The event on `repo` that announces each change of the text.

    It fires on create, on delete, and on a change of a text field or of the README. Its body
    must never fail, since it would fail the user's write: `<string>[…]` takes values of any
    type. A writer that sets `$embed_star_lane` to 1 puts the change into the backfill lane.
    """
    fields = announced_fields(text_fields)
    after = ", ".join(f"$after.{quoted_path(path)}" for path in fields)
    # All fields at once: each `$before.field` by itself copies the whole row, on every update.
    some = "{" + ", ".join(map(_member, fields)) + "}"
    definition = (
        f"DEFINE EVENT OVERWRITE {EVENT} ON TABLE repo "
        f"WHEN $event != 'UPDATE' OR $before.{some} != $after.{some} "
        "THEN { CREATE embedding_outbox CONTENT { "
        "id: [IF $embed_star_lane = 1 { 1 } ELSE { 0 }, rand::ulid()], "
        f"repo: $value.id, size: string::len(<string>[{after}]) }} RETURN NONE }}"
    )
    return f"{definition} COMMENT '{_mark(definition)}'"


def is_current(found: str, text_fields: Sequence[str]) -> bool:
    """Whether `found`, an event as the database prints it, is what `event_sql` defines."""
    return event_sql(text_fields).rpartition("COMMENT ")[2] in found


def _mark(definition: str) -> str:
    """What tells one definition from another: each server prints a definition in its own way."""
    return f"embed_star {hashlib.sha256(definition.encode()).hexdigest()[:8]}"


def _member(path: str) -> str:
    """A field of a selection such as `$after.{name}`; one inside another has its path as name."""
    return f"{quoted(path)}: {quoted_path(path)}" if "." in path else quoted(path)
