"""The manifest of a backup: `manifest.json`, which is written last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from embed_star.errors import BackupError
from embed_star.models import Space

FILE = "manifest.json"
FORMAT = "embed_star backup"
FORMAT_VERSION = 2
"""Increased when an older reader would misread a new backup."""

FAILURES = "embedding_failure"

PASSAGES = "passage_vectors"
"""In the record of a vector: its row's passages, each with its hash and vector, in order. A row
is saved and restored with all of them, or without any."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class SavedFile(_Part):
    """One file of records."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+-\d{5}\.cbor\.gz$")]
    records: NonNegativeInt
    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def table(self) -> str:
        """The table of its records."""
        return self.name.rpartition("-")[0]


class SavedTable(_Part):
    """All records of one table, in the order of their keys."""

    table: str
    records: NonNegativeInt
    files: tuple[SavedFile, ...]


class SavedSpace(_Part):
    """An embedding space, as in `models.Space`."""

    provider: str
    model: str
    dimensions: int
    text_version: str
    text_fields: tuple[str, ...]
    active: bool

    @model_validator(mode="after")
    def _is_space(self) -> Self:
        """Refuse invalid values here, before the space's name gets into a statement."""
        _ = self.space
        return self

    @property
    def space(self) -> Space:
        """The space. Raises ValueError only when made without validation."""
        return Space(self.provider, self.model, self.dimensions, self.text_version)


class Manifest(_Part):
    """A complete backup. The files of a table are in the order of its keys."""

    format: Literal["embed_star backup"]
    version: int
    embed_star: str
    surrealdb: str
    started: Annotated[AwareDatetime, Field(strict=False)]
    finished: Annotated[AwareDatetime, Field(strict=False)]
    migration: NonNegativeInt
    """The last migration of the saved database."""
    vectors: bool
    """Whether it contains vectors."""
    spaces: tuple[SavedSpace, ...]
    tables: tuple[SavedTable, ...]

    @property
    def files(self) -> list[SavedFile]:
        return [file for table in self.tables for file in table.files]

    def records(self, table: str) -> list[SavedFile]:
        """The files of `table`; empty when it was not saved."""
        return [file for one in self.tables if one.table == table for file in one.files]

    def dimensions(self, table: str) -> int | None:
        """The length of the vectors of `table`; None: it has no vectors."""
        found = (one.dimensions for one in self.spaces if one.space.table == table)
        return next(found, None)


class _Head(_Part):
    """The part that a reader of any version understands."""

    format: str
    version: int
    embed_star: str = "?"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest atomically: it exists complete or not at all. Raises OSError."""
    unfinished = directory / f"{FILE}.unfinished"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(directory / FILE)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Write the names in `directory` to the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished backup. Raises BackupError with the reason."""
    if not directory.is_dir():
        raise BackupError(f"{directory} is no directory: name the one that `backup` wrote")
    try:
        text = (directory / FILE).read_bytes()
    except FileNotFoundError:
        raise BackupError(
            f"{directory} is no finished backup, for {FILE}, which is written last, is not there"
        ) from None
    except OSError as error:
        raise BackupError(f"cannot read {directory / FILE}: {error.strerror}") from error
    try:
        head = _Head.model_validate_json(text)
        if head.format == FORMAT and head.version > FORMAT_VERSION:
            raise BackupError(
                f"{directory} was written by embed_star {head.embed_star} in a newer format "
                f"({head.version}, this one reads {FORMAT_VERSION}): install that embed_star"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise BackupError(f"{directory / FILE} is damaged, or no backup's ({why})") from None
