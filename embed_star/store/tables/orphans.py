"""Orphans: records of deleted repos, in tables whose ids are the keys of repos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after


class Swept(NamedTuple):
    """The result of one page."""

    keys: list[Key]
    """The keys of all its records, removed ones included."""
    removed: int
    more: bool
    """Whether records may follow."""


_MAX_SKIPPED = 100
"""Most successive records with keys that the database cannot return."""


class Orphans(Protocol):
    """Removes the records of deleted repos."""

    def sweep(self, table: str, after: Key | None, rows: int) -> Swept:
        """Read the next `rows` records of `table` in key order, and delete the orphans.

        Reads fewer when the database cannot return one of their keys, and skips that one.
        Raises StoreError after _MAX_SKIPPED of those in a row.
        """

    def sweep_passages(self, table: str, after: Key | None, rows: int) -> Swept:
        """As `sweep`, for a table of passages: delete those that no row's vector counts."""


class SurrealOrphans:
    """In SurrealDB, which may hold records whose keys it cannot return."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sweep(self, table: str, after: Key | None, rows: int) -> Swept:
        return self._swept(self._sweep, table, after, rows)

    def sweep_passages(self, table: str, after: Key | None, rows: int) -> Swept:
        return self._swept(self._sweep_passages, table, after, rows)

    def _swept(
        self,
        sweep: Callable[[str, Key | None, int, int], tuple[list[Key], int]],
        table: str,
        after: Key | None,
        rows: int,
    ) -> Swept:
        skipped = 0
        while True:
            try:
                keys, removed = sweep(table, after, rows, skipped)
            except StoreAuthError:
                raise
            except StoreError:
                if rows > 1:
                    rows //= 2
                elif skipped < _MAX_SKIPPED:
                    skipped += 1
                else:
                    raise
            else:
                return Swept(keys, removed, more=len(keys) == rows)

    def _sweep(
        self, table: str, after: Key | None, rows: int, skipped: int
    ) -> tuple[list[Key], int]:
        """One page after `skipped` records: its keys, and how many were removed.

        One statement is one transaction: it conflicts with a row that is written meanwhile,
        and is then retried. The database compares the keys, since Python cannot hold all of
        them exactly (see `models.is_usable`).
        """
        source, bound = records_after(self._database, table, after)
        make = "type::record" if self._database.version >= (3,) else "type::thing"
        ((keys, removed),) = self._database.query(
            f"{{ LET $page = (SELECT VALUE id FROM {source} LIMIT $rows START $skipped);"
            # 2.x makes a text of a UUID on the way: see `_sweep_uuids`.
            f"LET $gone = array::filter($page, |$one| {make}('repo', record::id($one)).id()"
            # Not record::exists: server 3 takes a set in a key for an array there.
            " == record::id($one) AND "
            f"(SELECT VALUE 1 FROM {make}('repo', record::id($one))) = []);"
            "DELETE $gone RETURN NONE;"
            "RETURN [$page, array::len($gone)] }",
            rows=rows,
            skipped=skipped,
            **bound,
        )
        uuids = [one.id for one in keys if isinstance(one.id, UUID)]
        if uuids and self._database.version < (3,):
            removed += self._sweep_uuids(table, uuids)
        return [one.id for one in keys], int(removed)

    def _sweep_passages(
        self, table: str, after: Key | None, rows: int, skipped: int
    ) -> tuple[list[Key], int]:
        """By the link to the row's vector, which is exact for keys of any type."""
        source, bound = records_after(self._database, table, after)
        ((keys, removed),) = self._database.query(
            f"{{ LET $page = (SELECT VALUE id FROM {source} LIMIT $rows START $skipped);"
            "LET $gone = (SELECT VALUE id FROM $page "
            "WHERE (main.passages ?? 0) <= record::id(id)[1]);"
            "DELETE $gone RETURN NONE;"
            "RETURN [$page, array::len($gone)] }",
            rows=rows,
            skipped=skipped,
            **bound,
        )
        return [one.id for one in keys], int(removed)

    def _sweep_uuids(self, table: str, keys: Sequence[Key]) -> int:
        """Delete the orphans among `keys`; how many. Python holds UUIDs exactly."""
        (removed,) = self._database.query(
            "{ LET $gone = array::filter($pairs, |$pair| !record::exists($pair[1]));"
            "FOR $pair IN $gone { LET $one = $pair[0]; DELETE $one RETURN NONE };"
            "RETURN array::len($gone) }",
            pairs=[[record(table, key), record("repo", key)] for key in keys],
        )
        return int(removed)
