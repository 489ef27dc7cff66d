"""What a backup says of itself: `manifest.json`, the file that is written last."""

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
FORMAT_VERSION = 1
"""Raised when a reader of the version before would misread what is written."""

FAILURES = "embedding_failure"


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
        """The table whose records are in it."""
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
        """What is none ends here, and not only where its name gets into a statement."""
        _ = self.space
        return self

    @property
    def space(self) -> Space:
        """Raises ValueError, but not for what was read."""
        return Space(self.provider, self.model, self.dimensions, self.text_version)


class Manifest(_Part):
    """The whole of a backup. `files` of a table are in the order of its keys."""

    format: Literal["embed_star backup"]
    version: int
    embed_star: str
    surrealdb: str
    started: Annotated[AwareDatetime, Field(strict=False)]
    finished: Annotated[AwareDatetime, Field(strict=False)]
    migration: NonNegativeInt
    """The last migration of the database that was saved."""
    vectors: bool
    """Whether vectors were saved, too."""
    spaces: tuple[SavedSpace, ...]
    tables: tuple[SavedTable, ...]

    @property
    def files(self) -> list[SavedFile]:
        return [file for table in self.tables for file in table.files]

    def records(self, table: str) -> list[SavedFile]:
        """The files of `table`; none when it was not saved."""
        return [file for one in self.tables if one.table == table for file in one.files]

    def dimensions(self, table: str) -> int | None:
        """How long the vectors of `table` are; None: it is none of vectors."""
        found = (one.dimensions for one in self.spaces if one.space.table == table)
        return next(found, None)


class _Head(_Part):
    """What a reader of any version understands."""

    format: str
    version: int
    embed_star: str = "?"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it in one step: it is there whole or not at all. Raises OSError."""
    unfinished = directory / f"{FILE}.unfinished"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(directory / FILE)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """See to it that the names in `directory` are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished backup. Raises BackupError, saying what is wrong."""
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
