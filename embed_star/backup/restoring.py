"""Restores a backup: writes only missing records, under the locks that every run takes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_star.backup.chunks import read_records, verify
from embed_star.backup.manifest import FAILURES, PASSAGES, Manifest, SavedSpace, read_manifest
from embed_star.backup.saving import OnRecords, page_rows
from embed_star.errors import AlreadyExists, BackupError, FenceLost
from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.tables.checkpoints import Checkpoints
from embed_star.store.tables.locks import LockTable
from embed_star.store.tables.records import Records
from embed_star.store.tables.spaces import Spaces
from embed_star.store.tables.vectors import passage_record

_FAILURE_ROWS = 500


@dataclass(slots=True)
class Restored:
    """What the restore did with a table's records, as counts."""

    written: int = 0
    kept: int = 0
    """Not written: the row has a vector or a failure of its own in that space."""
    in_flight: int = 0
    """Not written: another run is working on the row."""


def open_backup(directory: Path, space: Space, migration: int) -> Manifest:
    """The manifest of a backup that fits the database. Raises BackupError for another one.

    `space` is the active space of the database, `migration` the last one that this
    embed_star knows.
    """
    manifest = read_manifest(directory)
    if manifest.migration > migration:
        raise BackupError(
            f"{directory} was made at migration {manifest.migration} and this embed_star knows "
            f"only {migration}: install embed_star {manifest.embed_star} or newer"
        )
    if not any(one.space == space for one in manifest.spaces):
        raise BackupError(
            f"{directory} is of {_described(manifest.spaces)}, and the settings say "
            f"{space.provider} {space.model} ({space.dimensions} dimensions), so none of it would "
            "be used: set EMBEDDING_* and TEXT_* to that and run `embed-star migrate` first"
        )
    known = {FAILURES, *(one.space.table for one in manifest.spaces)}
    named = {one.table for one in manifest.tables} | {one.table for one in manifest.files}
    if strange := named - known:
        raise BackupError(f"{directory} names a table of no space, {min(strange)[:80]!r}")
    return manifest


def verify_files(directory: Path, manifest: Manifest, on_read: Callable[[int], None]) -> None:
    """Compare every file with its checksum, and read all its records.

    Raises BackupError at the first file that differs or holds an invalid record.
    """
    for file in manifest.files:
        verify(directory, file, on_read)
        for _ in read_records(directory, file, manifest.dimensions(file.table)):
            pass


class Restorer:
    """Restores into one database with a current schema."""

    def __init__(
        self,
        *,
        records: Records,
        locks: LockTable,
        spaces: Spaces,
        checkpoints: Checkpoints,
        lock_ttl_s: float,
    ) -> None:
        self._records = records
        self._locks = locks
        self._spaces = spaces
        self._checkpoints = checkpoints
        self._lock_ttl_s = lock_ttl_s

    def restore(
        self, directory: Path, manifest: Manifest, on_records: OnRecords
    ) -> dict[str, Restored]:
        """Write the missing records; the result for each table. A second call changes nothing.

        The caller must have verified the files. The restore locks a row before it writes it,
        so that no run of the fleet writes the same row. It writes failures first, since the
        backup read them last. Then it makes the reconcile start over, which finds the rows
        whose text has changed since the backup.
        """
        for saved in manifest.spaces:
            self._spaces.add_retired(saved.space, saved.text_fields)
        by_name = {one.space.name: one for one in manifest.spaces}
        done = {FAILURES: Restored()}
        for page in _pages(directory, manifest, FAILURES, _FAILURE_ROWS):
            for name, rows in _by_space(page).items():
                if name in by_name:
                    self._put(FAILURES, by_name[name].space, rows, done[FAILURES])
            on_records(FAILURES, len(page))
        for saved in manifest.spaces:
            self._restore_vectors(directory, manifest, saved.space, done, on_records)
        self._checkpoints.forget()
        return done

    def _restore_vectors(
        self,
        directory: Path,
        manifest: Manifest,
        space: Space,
        done: dict[str, Restored],
        on_records: OnRecords,
    ) -> None:
        if not manifest.vectors:
            return
        result = done.setdefault(space.table, Restored())
        for page in _pages(directory, manifest, space.table, page_rows(space.dimensions)):
            self._put(space.table, space, page, result)
            on_records(space.table, len(page))

    def _put(
        self, table: str, space: Space, rows: Sequence[dict[str, Any]], result: Restored
    ) -> None:
        """Write the missing ones of `rows` that no other run has locked."""
        token = f"restore:{secrets.token_hex(8)}"
        keys = [one["id"].id for one in rows]
        won = self._locks.acquire(keys, token, self._lock_ttl_s)
        mine = [one for one, is_won in zip(rows, won, strict=True) if is_won]
        locked = [one["id"].id for one in mine]
        # A row has one failure at most, whatever the space: its id is the row's key.
        of_space = None if table == FAILURES else space.name
        settled = self._records.failed(locked, of_space)
        settled |= self._records.with_vector(space.table, locked)
        missing = [one for one in mine if key_text(one["id"].id) not in settled]
        written = self._write(table, space, missing, locked, token)
        result.written += written
        result.kept += len(mine) - len(missing)
        result.in_flight += len(rows) - len(mine) + len(missing) - written

    def _write(
        self,
        table: str,
        space: Space,
        missing: Sequence[dict[str, Any]],
        locked: Sequence[Key],
        token: str,
    ) -> int:
        if not missing:
            self._locks.release(locked, token)
            return 0
        # Neither id nor link is taken from the backup but for the key: it may be anybody's.
        rows = [_linked(one, table, one["id"].id) for one in missing]
        passages = [passage for one in missing for passage in _passages(one, space)]
        try:
            self._records.add(table, rows, locked, token, (space.passages_table, passages))
        except (FenceLost, AlreadyExists):
            # This process stood still for longer than a lock lasts: others have the rows.
            self._locks.release(locked, token)
            return 0
        return len(missing)


def _linked(one: Mapping[str, Any], table: str, key: Key) -> dict[str, Any]:
    link = {"repo": record("repo", key)} if "repo" in one else {}
    count = {"passages": len(one[PASSAGES])} if one.get(PASSAGES) else {}
    kept = {name: value for name, value in one.items() if name not in (PASSAGES, "passages")}
    return {**kept, **link, **count, "id": record(table, key)}


def _passages(one: Mapping[str, Any], space: Space) -> list[dict[str, Any]]:
    """The records of the passages of a row, whose vector's record is `one`."""
    return [
        {
            **passage_record(space, one["id"].id, n, part["text_hash"]),
            "vector": part["vector"],
            "run": one.get("run"),
        }
        for n, part in enumerate(one.get(PASSAGES, ()))
    ]


def _pages(
    directory: Path, manifest: Manifest, table: str, rows: int
) -> Iterator[list[dict[str, Any]]]:
    """The records in lists of at most `rows` vectors, or of one row with its passages."""
    for file in manifest.records(table):
        page: list[dict[str, Any]] = []
        left = rows
        for one in read_records(directory, file, manifest.dimensions(table)):
            vectors = 1 + len(one.get(PASSAGES, ()))
            if page and vectors > left:
                yield page
                page, left = [], rows
            page.append(one)
            left -= vectors
        if page:
            yield page


def _by_space(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        found.setdefault(str(one.get("space")), []).append(one)
    return found


def _described(spaces: Sequence[SavedSpace]) -> str:
    active = next((one for one in spaces if one.active), None)
    if active is None:
        return "no active space"
    fields = ",".join(active.text_fields)
    return f"{active.provider} {active.model} ({active.dimensions} dimensions, fields {fields})"
