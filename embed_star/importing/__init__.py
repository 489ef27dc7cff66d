"""Repositories from a file: JSON of any form, CSV, compressed or not. No database, no terminal.

Rows are read one by one: memory depends on the largest row (`MAX_ROW_CHARS`), not on the
file. A bad row becomes a `BadLine`, and reading goes on. Only a file in no known format
raises InputFileError.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from embed_star.errors import InputFileError
from embed_star.importing.encoding import Western, text_of
from embed_star.importing.fields import Maps, parse_maps
from embed_star.importing.lines import Lines
from embed_star.importing.packing import unpacked
from embed_star.importing.repo import NO_MAPS, BadLine, Repo, Row, normalise, to_row
from embed_star.importing.table import csv_rows, header_of, not_a_table
from embed_star.importing.walking import json_rows
from embed_star.importing.window import Window

__all__ = ["BadLine", "Maps", "Repo", "Row", "normalise", "parse_maps", "read_rows", "to_row"]

_BETWEEN = " \t\r\n,\ufeff\x1e"
_LINES_TRIED = 50
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x7f]")


def read_rows(stream: BinaryIO, *, name: str, maps: Maps = NO_MAPS) -> Iterator[Row | BadLine]:
    """The rows of `stream`, in order. Messages call the stream `name`.

    The call reads the first chunk to find the format; the iterator reads the rest. `maps`
    names the file's key or column for a field, such as `{"full_name": "repo"}`. Raises
    InputFileError when the stream is empty, cannot be read, or is in no known format.
    """
    text = text_of(unpacked(stream, name))
    head = next(text)
    lines = head.split("\n")
    first = next((line for line in map(_bare, lines) if line), "")
    if not first:
        raise InputFileError(f"{name} is empty")
    if first.startswith(("[", "{")):
        whole = itertools.chain([head], text)
        return json_rows(Window(whole), maps, name, by_lines=_is_by_lines(lines, first))
    western = Western()
    table = western.read(head)
    if header := header_of(table.split("\n"), name, maps):
        return csv_rows(Lines(itertools.chain([table], map(western.read, text))), header)
    if any(_bare(line).startswith("{") for line in lines):  # only its first line is bad
        return json_rows(Window(itertools.chain([head], text)), maps, name, by_lines=True)
    if first.lower().startswith(("<!doctype", "<html")):
        raise InputFileError(f"{name} is a web page: save what the page shows as JSON or CSV")
    if _CONTROL.search(head):
        raise InputFileError(f"{name} is no text: save what is in it as JSON Lines or CSV")
    raise InputFileError(
        f"{name} is neither JSON Lines, nor a JSON array, nor CSV with a column full_name or url: "
        + not_a_table(table.split("\n"))
    )


def _bare(line: str) -> str:
    return line.strip(_BETWEEN)


def _is_by_lines(lines: list[str], first: str) -> bool:
    """Whether each row is one line: one of the first lines is a complete object."""
    if first.startswith("["):
        return False
    for line in itertools.islice(filter(None, map(_bare, lines)), _LINES_TRIED):
        if line.startswith("{"):
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                continue
            return True
    return False
