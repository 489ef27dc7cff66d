"""CSV with a header of GitHub's field names; `owner.login` is a field inside `owner`."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from embed_star.errors import InputFileError
from embed_star.importing.lines import MAX_ROW_CHARS, Lines
from embed_star.importing.repo import BadLine, Row, shown, to_row

# CSV has no types: columns of GitHub's API that are not text, by their last part.
_INTEGER = re.compile(
    "(github_)?id|size|forks|watchers|open_issues"
    "|(stargazers|watchers|forks|open_issues|network|subscribers)_count"
)
_BOOLEAN = re.compile(
    "private|fork|archived|disabled|is_template|allow_forking|web_commit_signoff_required"
    "|has_(issues|projects|downloads|wiki|pages|discussions)"
    "|site_admin|admin|maintain|push|triage|pull"
)
_WHOLE = re.compile(r"(-?[0-9]{1,30})(?:\.0+)?")  # pandas writes 12.0 where a cell was empty
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def columns_of(header: str, delimiter: str) -> list[str]:
    """The names in a header line; none when it is no CSV."""
    try:
        cells = next(csv.reader([header], delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def check_columns(columns: list[str], name: str) -> None:
    """Raise InputFileError when two columns would write the same field."""
    seen: set[str] = set()
    for column in filter(None, columns):
        if column in seen:
            raise InputFileError(f"{name} has more than one column {shown(column)}")
        seen.add(column)
    for column in seen:
        outer = column.rpartition(".")[0]
        while outer:
            if outer in seen:
                raise InputFileError(
                    f"{name} has a column {shown(outer)} beside {shown(column)}: leave one out"
                )
            outer = outer.rpartition(".")[0]


class _Replay:
    """Lines of which those of a broken record, but the first, can be read again."""

    def __init__(self, lines: Lines) -> None:
        self.number = 0
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []

    def __iter__(self) -> _Replay:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
            self.number += 1
        else:
            try:
                line = next(self._lines)
            finally:
                self.number = self._lines.number
        self._taken.append(line)
        return line

    def begin(self) -> int:
        """A record begins; the number of its first line."""
        self._taken.clear()
        return self.number + 1

    def back(self) -> None:
        """Return to the second line since `begin`."""
        self.number -= len(self._taken[1:])
        self._again.extendleft(reversed(self._taken[1:]))


def csv_rows(lines: Lines, columns: list[str], delimiter: str) -> Iterator[Row | BadLine]:
    """The rows of a CSV text whose first line that is not blank is the header.

    A quotation mark that is never closed would swallow every line after it: these are
    read again, as rows.
    """
    csv.field_size_limit(MAX_ROW_CHARS)  # process-wide; the default of 131,072 is too short
    replay = _Replay(lines)
    reader = csv.reader(replay, delimiter=delimiter, strict=True)
    header_seen = False
    while True:
        line = replay.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            upto = f" (in a quoted cell, at line {replay.number})" if replay.number > line else ""
            yield BadLine(line, f"not CSV: {error}{upto}")
            replay.back()
        except ValueError as error:  # of Lines
            yield BadLine(replay.number, str(error))
        else:
            if header_seen and any(cells):
                yield _csv_row(line, columns, cells)
            header_seen = header_seen or any(cells)


def _csv_row(line: int, columns: list[str], cells: list[str]) -> Row | BadLine:
    if len(cells) != len(columns):
        return BadLine(line, f"has {len(cells)} cells where the header has {len(columns)}")
    fields: dict[str, Any] = {}
    try:
        for column, cell in zip(columns, cells, strict=True):
            if column:
                *outer, last = column.split(".")
                inside = fields
                for part in outer:
                    inside = inside.setdefault(part, {})
                inside[last] = _csv_value(column, last, cell)
    except ValueError as error:
        return BadLine(line, str(error))
    return to_row(line, fields)


def _csv_value(column: str, last: str, cell: str) -> Any:
    """The value of a cell; an empty one is None, but no topics are an empty list."""
    text = cell.strip()
    if column == "topics":
        return _topics(text)
    if not text:
        return None
    if _INTEGER.fullmatch(last):
        if not (match := _WHOLE.fullmatch(text)):
            raise ValueError(f"{shown(column)} is not a whole number")
        return int(match[1])
    if _BOOLEAN.fullmatch(last):
        if text.lower() not in _TRUTH:
            raise ValueError(f"{shown(column)} is neither true nor false")
        return _TRUTH[text.lower()]
    return text if column in ("full_name", "name", "owner.login") else cell


def _topics(text: str) -> list[str]:
    if text.startswith("["):
        try:
            topics = json.loads(text)
        except (ValueError, RecursionError):
            topics = None  # Python's own form, as pandas writes it: ['a', 'b']
        if isinstance(topics, list) and all(isinstance(topic, str) for topic in topics):
            return topics
        text = text.strip("[]")
    parts = (part.strip(" \t\r\n'\"") for part in re.split(r"[,;]", text))
    return [part for part in parts if part]
