"""Writes a backup: pages of records by key range, while the fleet may go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from embed_star import __version__
from embed_star.backup.chunks import ChunkWriter
from embed_star.backup.manifest import (
    FAILURES,
    FILE,
    FORMAT_VERSION,
    Manifest,
    SavedSpace,
    SavedTable,
    sync_directory,
    write_manifest,
)
from embed_star.errors import BackupError
from embed_star.models import is_usable
from embed_star.store.tables.records import Records
from embed_star.store.tables.spaces import KnownSpace, Spaces

_PAGE_NUMBERS = 400_000
"""Numbers of vectors in one page: 520 rows of 768, 12 MB as Python's floats."""
_FAILURE_ROWS = 500
_OURS = re.compile(r"[a-z0-9_]+-\d{5}\.cbor\.gz|manifest\.json\.unfinished")

OnRecords = Callable[[str, int], None]
"""Is told of a table's name and how many of its records were dealt with since."""


def page_rows(dimensions: int) -> int:
    """How many vectors one page holds: the memory of a page does not grow with them."""
    return max(50, min(1000, _PAGE_NUMBERS // dimensions))


class Saver:
    """Saves the spaces, vectors and failures of one database."""

    def __init__(self, *, records: Records, spaces: Spaces, surrealdb: str, migration: int) -> None:
        self._records = records
        self._spaces = spaces
        self._surrealdb = surrealdb
        self._migration = migration

    def totals(self, *, vectors: bool) -> dict[str, int]:
        """Table → how many records there are to save, now."""
        known = self._spaces.known() if vectors else []
        tables = [*(one.space.table for one in known), FAILURES]
        return {table: self._records.count(table) for table in tables}

    def save(self, directory: Path, on_records: OnRecords, *, vectors: bool) -> Manifest:
        """Write it all into `directory`, which is made if need be; what was written.

        Each record is whole, but pages are read one after another: rows that change
        meanwhile are in it as before or as after. Vectors are read before failures, so
        that a row with both is one that has failed since. The manifest comes last: without
        it, `directory` is visibly no backup, and saving there begins anew.
        Raises BackupError.
        """
        started = datetime.now(UTC)
        with _writing(directory):
            _prepare(directory)
            known = self._spaces.known()
            tables = [
                self._save_table(
                    directory, one.space.table, page_rows(one.space.dimensions), on_records
                )
                for one in known
                if vectors
            ]
            tables.append(self._save_table(directory, FAILURES, _FAILURE_ROWS, on_records))
            manifest = Manifest(
                format="embed_star backup",
                version=FORMAT_VERSION,
                embed_star=__version__,
                surrealdb=self._surrealdb,
                started=started,
                finished=datetime.now(UTC),
                migration=self._migration,
                vectors=vectors,
                spaces=tuple(_saved(one) for one in known),
                tables=tuple(tables),
            )
            write_manifest(directory, manifest)
        return manifest

    def _save_table(
        self, directory: Path, table: str, rows: int, on_records: OnRecords
    ) -> SavedTable:
        writer = ChunkWriter(directory, table)
        after = None
        try:
            while page := self._records.page(table, after, rows):
                # A key with a date in it, for one, has lost its nanoseconds on the way here.
                for record in page:
                    if is_usable(record["id"].id):
                        writer.add(record)
                on_records(table, len(page))
                after = page[-1]["id"].id
            files = writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return SavedTable(
            table=table, records=sum(one.records for one in files), files=tuple(files)
        )


def _saved(known: KnownSpace) -> SavedSpace:
    space = known.space
    return SavedSpace(
        provider=space.provider,
        model=space.model,
        dimensions=space.dimensions,
        text_version=space.text_version,
        text_fields=tuple(known.text_fields),
        active=known.active,
    )


def _prepare(directory: Path) -> None:
    """Make `directory`, or clear it of a backup that was never finished."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = list(directory.iterdir())
    if any(path.name == FILE for path in there):
        raise BackupError(f"{directory} holds a backup already: name a new directory")
    strangers = [path.name for path in there if not _OURS.fullmatch(path.name)]
    if strangers:
        raise BackupError(
            f"{directory} is not empty ({min(strangers)} is in it): name a new directory"
        )
    for path in there:
        path.unlink()
    sync_directory(directory)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(
            f"cannot write to {directory}: {error.strerror or type(error).__name__}; what is "
            "there is no finished backup"
        ) from error
