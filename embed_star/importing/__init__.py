"""Repositories from a file: JSON Lines, JSON arrays, CSV. No database, no terminal.

Reading streams: memory is bounded by the largest row (`MAX_ROW_CHARS`), never by the
file. What is wrong with a row becomes a `BadLine` and does not stop the rest; only a
file that is no such file at all raises InputFileError.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from embed_star.errors import InputFileError
from embed_star.importing.arrays import Window, json_rows
from embed_star.importing.lines import Lines, line_rows, read, text_of
from embed_star.importing.repo import BadLine, Repo, Row, normalise, to_row
from embed_star.importing.table import check_columns, columns_of, csv_rows

__all__ = ["BadLine", "Repo", "Row", "normalise", "read_rows", "to_row"]

_NOT_OURS = {
    codecs.BOM_UTF16_LE: "is UTF-16 text (PowerShell's `>` writes that): save it as UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed: unpack it first",
    b"PK\x03\x04": "is a zip archive: unpack it first",
}
"""What a file may begin with that people do hand in, and what to do about it."""


def read_rows(stream: BinaryIO, *, name: str) -> Iterator[Row | BadLine]:
    """The rows of `stream` in order; `name` stands for it in messages.

    The format is found out at once, from the first chunk; the rest is read as the
    iterator is. Raises InputFileError when the stream is empty, cannot be read, or is
    of no known format.
    """
    head = read(stream, name)
    for mark, advice in _NOT_OURS.items():
        if head.startswith(mark):
            raise InputFileError(f"{name} {advice}")
    text = text_of(head, stream, name)
    lines = head.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape").split("\n")
    header = next((line for line in lines if line.strip()), "")
    first = header.strip()
    if not first:
        raise InputFileError(f"{name} is empty")
    # `{` alone on a line opens an object that is spread over lines, as jq prints it.
    if first.startswith("[") or first == "{":
        return json_rows(Window(text))
    if first.startswith("{"):
        return line_rows(Lines(text))
    delimiter = max(",;\t", key=header.count)
    columns = columns_of(header, delimiter)
    if "full_name" in columns or {"name", "owner.login"} <= set(columns):
        check_columns(columns, name)
        return csv_rows(Lines(text), columns, delimiter)
    if any(line.lstrip().startswith("{") for line in lines):  # only its first line is bad
        return line_rows(Lines(text))
    raise InputFileError(
        f"{name} is neither JSON Lines, nor a JSON array, nor CSV with a column full_name"
    )
