"""What is left of deleted repos, in tables whose ids are the keys of repos."""

from __future__ import annotations

from typing import NamedTuple

from embed_star.models import Key
from embed_star.store.pool import Database
from embed_star.store.ranges import records_after


class Swept(NamedTuple):
    """One page of a table."""

    keys: list[Key]
    """Of all its records, those that are gone now included."""
    removed: int


class Orphans:
    """Removes records of repos that are no more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sweep(self, table: str, after: Key | None, rows: int) -> Swept:
        """Look at the next `rows` records of `table` in key order, and delete the orphans.

        One statement, so one transaction: a row that is written again meanwhile conflicts
        with it and is looked at anew. The keys are compared where they are, as a key that is
        unusable here (`models.is_usable`) is exact there.
        """
        source, bound = records_after(self._database, table, after)
        make = "type::record" if self._database.version >= (3,) else "type::thing"
        ((keys, removed),) = self._database.query(
            f"{{ LET $page = (SELECT VALUE id FROM {source} LIMIT $rows);"
            "LET $gone = array::filter($page, |$one|"
            f" !record::exists({make}('repo', record::id($one))));"
            "DELETE $gone RETURN NONE;"
            "RETURN [$page, array::len($gone)] }",
            rows=rows,
            **bound,
        )
        return Swept([one.id for one in keys], int(removed))
