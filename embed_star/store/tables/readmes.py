"""READMEs that an import has put into rows of `repo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from embed_star.models import Key, is_usable, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after


class NamedRow(NamedTuple):
    """A row of `repo` with a name."""

    key: Key
    full_name: str


class Readmes:
    """Looks up which READMEs are there, and of which state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def etags(self, keys: Sequence[Key]) -> Mapping[str, str]:
        """The ETags of the READMEs of `keys`, by `key_text`; of those that have both."""
        (found,) = self._database.query(
            "SELECT id, readme_etag FROM $repos WHERE readme != NONE AND readme_etag != NONE",
            repos=[record("repo", key) for key in keys],
        )
        return {key_text(one["id"].id): str(one["readme_etag"]) for one in found}

    def page(self, after: Key | None, rows: int) -> tuple[list[NamedRow], Key | None]:
        """The next `rows` rows in key order, those with a usable key and a name, and the last key.

        `after` None begins at the first. The key is None behind the last row.
        """
        source, bound = records_after(self._database, "repo", after)
        (found,) = self._database.query(
            f"SELECT id, full_name FROM {source} LIMIT $rows", rows=rows, **bound
        )
        named = [
            NamedRow(one["id"].id, one["full_name"])
            for one in found
            if is_usable(one["id"].id) and isinstance(one.get("full_name"), str)
        ]
        return named, found[-1]["id"].id if found else None
