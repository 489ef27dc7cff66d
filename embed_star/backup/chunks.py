"""Files of records: gzip over a CBOR sequence (RFC 8742), each with its SHA-256.

A record is one CBOR map in SurrealDB's own encoding (`store.client.codec`), except that a
vector is a byte string of little-endian float32 values.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import cbor2
import numpy as np

from embed_star.backup.manifest import PASSAGES, SavedFile
from embed_star.backup.plain import check_record
from embed_star.errors import BackupError
from embed_star.store.client import codec

CHUNK_BYTES = 16 * 1024 * 1024
"""A file ends when its records reach this size before compression."""
_READ_BYTES = 1024 * 1024
_DAMAGE = (ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""Errors that decoding raises for bytes that are no record."""
_LEVEL = 1  # vectors hardly compress: more effort is time for nothing


class ChunkWriter:
    """Writes the records of one table into files `NAME-00001.cbor.gz`, …

    Raises OSError. A file is on the disk before the next one begins, and all of them are
    after `finish`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._files: list[SavedFile] = []
        self._open: _Chunk | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        if self._open is None:
            name = f"{self._name}-{len(self._files) + 1:05}.cbor.gz"
            self._open = _Chunk(self._directory / name)
        self._open.add(codec.encode(_packed(record)))
        if self._open.raw_bytes >= CHUNK_BYTES:
            self._close()

    def finish(self) -> list[SavedFile]:
        """Complete the last file; return all files, in order."""
        self._close()
        return self._files

    def abandon(self) -> None:
        """Close the open file, unfinished."""
        if self._open is not None:
            self._open.abandon()

    def _close(self) -> None:
        if self._open is not None:
            self._files.append(self._open.finish())
            self._open = None


class _Chunk:
    """One file being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")
        self._hashing = _Hashing(self._file)
        # No name and no time inside: the same records make the same bytes.
        self._gzip = gzip.GzipFile("", "wb", _LEVEL, self._hashing, mtime=0)
        self._records = 0
        self.raw_bytes = 0

    def add(self, encoded: bytes) -> None:
        self._gzip.write(encoded)
        self._records += 1
        self.raw_bytes += len(encoded)

    def finish(self) -> SavedFile:
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return SavedFile(
            name=self._path.name,
            records=self._records,
            bytes=self._hashing.count,
            sha256=self._hashing.sha256.hexdigest(),
        )

    def abandon(self) -> None:
        try:
            self._gzip.close()
            self._file.close()
        except OSError:  # the disk that was full still is
            pass


class _Hashing:
    """Writes to a file, and counts and hashes the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.count = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def verify(directory: Path, file: SavedFile, on_read: Callable[[int], None]) -> None:
    """Compare a file with its checksum. Calls `on_read` with a number of bytes, repeatedly.

    Raises BackupError when it is missing, torn or changed.
    """
    path = directory / file.name
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as handle:
            while data := handle.read(_READ_BYTES):
                digest.update(data)
                size += len(data)
                on_read(len(data))
    except FileNotFoundError:
        raise BackupError(f"{path} is missing: the backup is not whole") from None
    except OSError as error:
        raise BackupError(f"cannot read {path}: {error.strerror}") from error
    if size < file.bytes:
        raise BackupError(f"{path} is torn: it has {size:,} of {file.bytes:,} bytes")
    if digest.hexdigest() != file.sha256:
        raise BackupError(f"{path} was changed or damaged: its SHA-256 is not the manifest's")


def read_records(
    directory: Path, file: SavedFile, dimensions: int | None
) -> Iterator[dict[str, Any]]:
    """The records of a file, one at a time. Their vectors have `dimensions`; None: no vectors.

    Raises BackupError, also for a record that holds more than plain data (see `plain`).
    """
    path, count = directory / file.name, 0
    try:
        with _Forward(path, "rb") as handle:
            decoder = cbor2.CBORDecoder(
                cast("BinaryIO", handle),
                tag_hook=codec.decode_tag,
                semantic_decoders=codec.OPAQUE_TAGS,
            )
            while count < file.records:
                record = decoder.decode()
                check_record(record, file.table, dimensions)
                yield _unpacked(record)
                count += 1
    except (OSError, EOFError, zlib.error, cbor2.CBORError, *_DAMAGE) as error:
        raise BackupError(f"{path} cannot be read: {type(error).__name__}") from error


class _Forward(gzip.GzipFile):
    """A gzip file that is read forward only.

    In a file that can seek, cbor2 reads ahead and goes back after each record. Gzip would
    then read from the start of the file again: a hundred times the work.
    """

    def seekable(self) -> bool:
        return False


def _packed(record: Mapping[str, Any]) -> Mapping[str, Any]:
    vector = record.get("vector")
    if vector is None:
        return record
    packed = {**record, "vector": np.asarray(vector, dtype="<f4").tobytes()}
    if passages := record.get(PASSAGES):
        packed[PASSAGES] = [_packed(one) for one in passages]
    return packed


def _unpacked(record: dict[str, Any]) -> dict[str, Any]:
    if (raw := record.get("vector")) is not None:
        vector = np.frombuffer(raw, dtype="<f4").astype(np.float32)
        record["vector"] = codec.VectorBytes(vector)
    for passage in record.get(PASSAGES, ()):
        _unpacked(passage)
    return record
