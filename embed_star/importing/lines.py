"""JSON Lines, and the text and lines that the other formats are read from."""

from __future__ import annotations

import codecs
import json
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from embed_star.errors import InputFileError
from embed_star.importing.repo import MAX_DEPTH, BadLine, Row, to_row

MAX_ROW_CHARS = 8 * 1024 * 1024
"""A longer row is refused; GitHub's own are about 6,000 characters."""
TOO_LONG = f"longer than {MAX_ROW_CHARS:,} characters"

_CHUNK_BYTES = 256 * 1024
_DECODER = json.JSONDecoder()


def read(stream: BinaryIO, name: str) -> bytes:
    """The next chunk, empty at the end. Raises InputFileError."""
    try:
        return stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise InputFileError(f"cannot read {name}: {error.strerror or error}") from error


def text_of(head: bytes, stream: BinaryIO, name: str) -> Iterator[str]:
    """The text of `head` and then of `stream`, in pieces, without a byte order mark."""
    # A bad byte becomes a lone surrogate, which `normalise` then finds in its row.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    piece = head
    text = decoder.decode(head).removeprefix("\ufeff")
    while piece:
        yield text
        piece = read(stream, name)
        text = decoder.decode(piece, final=not piece)
    yield text


def parse(line: int, text: str) -> Row | BadLine:
    """The row that one JSON text is."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return BadLine(line, f"not JSON: {error.msg} (character {error.pos + 1})")
    except ValueError:  # Python refuses to convert numbers of more than 4,300 digits
        return BadLine(line, "holds an integer beyond 64 bits")
    except RecursionError:
        return BadLine(line, f"nested deeper than {MAX_DEPTH} levels")
    return to_row(line, value)


class Lines:
    r"""The lines of a text; one that is over-long raises ValueError in its place.

    Iteration may go on after that. Only `\n` ends a line: JSON may hold a bare U+2028.
    """

    def __init__(self, text: Iterator[str]) -> None:
        self.number = 0
        """Of the line given last; the first is 1."""
        self._text = text
        self._ready: deque[str] = deque()
        self._rest: str | None = ""

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        while not self._ready:
            if self._rest is None:
                raise StopIteration
            self._fill(self._rest)
        self.number += 1
        line = self._ready.popleft()
        if len(line) > MAX_ROW_CHARS:
            raise ValueError(TOO_LONG)
        return line + "\n"

    def _fill(self, rest: str) -> None:
        piece = next(self._text, None)
        if piece is None:
            self._ready.extend([rest] if rest else [])
            self._rest = None
            return
        *whole, rest = (rest + piece).split("\n")
        self._ready.extend(whole)
        self._rest = rest[: MAX_ROW_CHARS + 1]  # enough to know that it is over-long


def line_rows(lines: Lines) -> Iterator[Row | BadLine]:
    """The rows of JSON Lines; blank lines are nothing."""
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except ValueError as error:
            yield BadLine(lines.number, str(error))
            continue
        if line.strip():
            yield parse(lines.number, line)
