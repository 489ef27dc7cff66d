"""Unpacks compressed files while they are read. Their first bytes tell the format."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from embed_star.errors import InputFileError

MAX_UNPACKED_BYTES = 8 * 1024**3
"""A compressed file that holds more is refused: a few KiB can unpack to a terabyte."""
MAX_WINDOW_BYTES = 128 * 1024 * 1024
"""The most memory for unpacking; `xz -9` takes 64 MiB, `zstd --long` 128 MiB."""

CHUNK_BYTES = 256 * 1024
_PART_BYTES = 64 * 1024

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
_ZSTD, _ZSTD_SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"

_NOT_OURS = (
    (0, b"PK\x03\x04", "is a zip archive, or an Excel workbook", "unpack it, or save it as CSV"),
    (0, b"PK\x05\x06", "is a zip archive with nothing in it", "pack it anew"),
    (0, b"\x04\x22\x4d\x18", "is packed with lz4", "unpack it with lz4 -d"),
    (0, b"\x5d\x00\x00", "is packed with lzma", "unpack it with xz -d"),
    (0, b"\x1f\x9d", "is packed with compress", "unpack it with gzip -d"),
    (0, b"Obj\x01", "is an Avro file", "write it as JSON Lines or CSV"),
    (0, b"ARROW1", "is an Arrow file", "write it as JSON Lines or CSV"),
    (0, b"<?xml", "is XML", "write it as JSON Lines or CSV"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it"),
    (0, b"Rar!", "is a rar archive", "unpack it"),
    (257, b"ustar", "is a tar archive", "unpack it with tar -x"),
    (0, b"PAR1", "is a Parquet file", "write it as JSON Lines or CSV"),
    (0, b"SQLite format 3", "is a SQLite database", "write its table as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "save it as CSV"),
    (0, b"%PDF", "is a PDF", "save its table as CSV"),
)
"""Files that users try: the offset and bytes that show the kind, its name, and the advice."""


class _Member(Protocol):
    """One compressed stream. A file may hold several, one after another."""

    eof: bool
    rest: bytes
    """The bytes that were fed after its end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack `data` in parts of limited size, up to the end of the stream."""


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.eof, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        part = b""
        while (data or len(part) == _PART_BYTES) and not self._inner.eof:
            part = self._inner.decompress(data, _PART_BYTES)
            data = self._inner.unconsumed_tail
            yield part
        self.eof, self.rest = self._inner.eof, self._inner.unused_data


class _Bzip2OrXz:
    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner
        self.eof, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, _PART_BYTES)
        while not self._inner.eof and not self._inner.needs_input:
            yield self._inner.decompress(b"", _PART_BYTES)
        self.eof, self.rest = self._inner.eof, self._inner.unused_data


class _Zstd:
    _FED_BYTES = 128
    """Bytes fed at once: the library returns all of their output, up to 32,768 times as much."""

    def __init__(self) -> None:
        import zstandard  # here, as few files need it

        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
        self.eof, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), self._FED_BYTES):
            end = at + self._FED_BYTES
            try:
                yield self._inner.decompress(data[at:end])
            except Exception as error:
                import zstandard

                if isinstance(error, zstandard.ZstdError):
                    raise OSError(str(error)) from error
                raise
            if self._inner.eof:
                self.eof, self.rest = True, self._inner.unused_data + data[end:]
                return


def unpacked(stream: BinaryIO, name: str) -> Peeked:
    """`stream`, unpacked when it is compressed. Reads its beginning.

    Raises InputFileError for an archive or another file without rows. So does `read` of the
    result, when the rest is damaged.
    """
    found = Peeked(_chunks_of(stream, name))
    if unpacker := _unpacker(found.head):
        found = Peeked(_plain(found, unpacker, name))
        if _unpacker(found.head):
            raise InputFileError(f"{name} is compressed twice: unpack it once, and import that")
    for at, mark, what, advice in _NOT_OURS:
        if found.head.startswith(mark, at):
            raise InputFileError(f"{name} {what}: {advice}, and import what is in it")
    return found


def _unpacker(head: bytes) -> Callable[[], _Member] | None:
    if head.startswith(_GZIP):
        return _Gzip
    if head.startswith(_BZIP2) and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return lambda: _Bzip2OrXz(bz2.BZ2Decompressor())
    if head.startswith(_XZ):
        return lambda: _Bzip2OrXz(lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_WINDOW_BYTES))
    if head.startswith(_ZSTD) or head[1:4] == _ZSTD_SKIPPABLE:
        return _Zstd
    return None


class Peeked:
    """A stream in chunks. Its first one is `head`, and `read` returns it, too."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.head = next(chunks, b"")
        self._chunks = chunks
        self._is_head_read = False

    def read(self) -> bytes:
        """The next chunk; empty at the end. Raises InputFileError."""
        if not self._is_head_read:
            self._is_head_read = True
            return self.head
        return next(self._chunks, b"")


def _chunks_of(stream: BinaryIO, name: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except OSError as error:
            raise InputFileError(f"cannot read {name}: {error.strerror or error}") from error
        if not chunk:
            return
        yield chunk


def _plain(packed: Peeked, unpacker: Callable[[], _Member], name: str) -> Iterator[bytes]:
    """Unpack `packed` in chunks. Raises InputFileError when it is damaged."""
    total = 0
    waiting = bytearray()
    try:
        for part in _parts(packed, unpacker):
            total += len(part)
            if total > MAX_UNPACKED_BYTES:
                raise InputFileError(
                    f"{name} unpacks to more than {MAX_UNPACKED_BYTES / 1024**3:g} GiB: if that is "
                    "right, unpack it and import the file"
                )
            waiting += part
            while len(waiting) >= CHUNK_BYTES:
                yield bytes(waiting[:CHUNK_BYTES])
                del waiting[:CHUNK_BYTES]
    except MemoryError as error:
        raise InputFileError(f"{name} needs more memory to unpack than is taken for it") from error
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if waiting:
            yield bytes(waiting)
        raise InputFileError(f"{name} is compressed, and damaged or cut short ({error})") from error
    yield bytes(waiting)


def _parts(packed: Peeked, unpacker: Callable[[], _Member]) -> Iterator[bytes]:
    data = packed.read()
    while data:
        member = unpacker()
        while not member.eof:
            if not data:
                raise EOFError("it ends too early")
            yield from member.feed(data)
            data = packed.read() if not member.eof else member.rest
        # Tapes and `xz` pad with zeros.
        while not (data := data.lstrip(b"\0")) and (data := packed.read()):
            pass
