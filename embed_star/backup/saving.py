"""Saves a backup: pages of records by key range, while the fleet may go on working."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from embed_star import __version__
from embed_star.backup.chunks import ChunkWriter
from embed_star.backup.manifest import (
    FAILURES,
    FILE,
    FORMAT_VERSION,
    PASSAGES,
    Manifest,
    SavedSpace,
    SavedTable,
    sync_directory,
    write_manifest,
)
from embed_star.errors import BackupError
from embed_star.models import MOST_PASSAGES, Space, is_usable, key_text
from embed_star.store.tables.records import Record, Records
from embed_star.store.tables.spaces import KnownSpace, Spaces

_PAGE_NUMBERS = 400_000
"""Numbers in the vectors of one page: 520 rows of 768, 12 MB as Python's floats."""
_FAILURE_ROWS = 500
_OURS = re.compile(r"[a-z0-9_]+-\d{5}\.cbor\.gz|manifest\.json\.unfinished")

OnRecords = Callable[[str, int], None]
"""Called with a table's name and the number of its records done since the last call."""


def page_rows(dimensions: int) -> int:
    """Vectors in one page: fewer long ones, so that a page takes the same memory."""
    return max(50, min(1000, _PAGE_NUMBERS // dimensions))


class Saver:
    """Saves the spaces, vectors and failures of one database."""

    def __init__(self, *, records: Records, spaces: Spaces, surrealdb: str, migration: int) -> None:
        self._records = records
        self._spaces = spaces
        self._surrealdb = surrealdb
        self._migration = migration

    def totals(self, *, vectors: bool) -> dict[str, int]:
        """The number of records to save, by table."""
        known = self._spaces.known() if vectors else []
        tables = [*(one.space.table for one in known), FAILURES]
        return {table: self._records.count(table) for table in tables}

    def save(self, directory: Path, on_records: OnRecords, *, vectors: bool) -> Manifest:
        """Save everything into `directory`, which is created if missing; the manifest.

        Pages are read one after another: the backup holds a row that changes meanwhile as it
        was before or after. Vectors are read before failures, so a row with both has failed
        since. The manifest is written last. Without it, `directory` is no backup, and a
        second call starts over. Raises BackupError.
        """
        started = datetime.now(UTC)
        with _writing(directory):
            _prepare(directory)
            known = self._spaces.known()
            with_passages = self._spaces.with_passages()
            tables = [
                self._save_table(
                    directory,
                    one.space.table,
                    page_rows(one.space.dimensions),
                    on_records,
                    one.space if one.space in with_passages else None,
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
        self,
        directory: Path,
        table: str,
        rows: int,
        on_records: OnRecords,
        space: Space | None = None,
    ) -> SavedTable:
        writer = ChunkWriter(directory, table)
        after = None
        try:
            while page := self._records.page(table, after, rows):
                # A key with a date in it, for one, has lost its nanoseconds on the way here.
                usable = [one for one in page if is_usable(one["id"].id)]
                for record in self._with_passages(space, usable, rows) if space else usable:
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

    def _with_passages(self, space: Space, page: Sequence[Record], most: int) -> Iterator[Record]:
        """The records of vectors, each with its row's passages; `most` vectors are read at once."""
        few = max(1, most // MOST_PASSAGES)
        for start in range(0, len(page), few):
            some = page[start : start + few]
            counts = [(one["id"].id, int(one.get("passages") or 0)) for one in some]
            counts = [(key, count) for key, count in counts if count]
            found = self._records.passages(space, counts) if counts else {}
            for one in some:
                yield _joined(one, found.get(key_text(one["id"].id), []))


def _joined(one: Record, passages: Sequence[Record]) -> Record:
    """The record of a vector with its passages.

    Without any, and as that of a row without a README, if they are of another run by now: such
    a row is found by the reconcile after a restore.
    """
    if not one.get("passages"):
        return one
    if len(passages) == one["passages"] and all(part.get("run") == one["run"] for part in passages):
        parts = [{name: part[name] for name in ("text_hash", "vector")} for part in passages]
        return {**one, PASSAGES: parts}
    left = {name: value for name, value in one.items() if name not in ("passages", "own_hash")}
    return {**left, "text_hash": one["own_hash"]}


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
    """Create `directory`, or empty it of an unfinished backup."""
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
