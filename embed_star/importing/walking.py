"""Repositories in JSON of any form: lines, arrays, answers of an API, one after another.

The text is walked, never held whole. An object that names its repository is a row, at any
depth; the walk enters every other object. So arrays of arrays (`gh api --slurp`),
`{"items": […]}` and `{"data": {… {"edges": [{"node": …}]}}}` need no case of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from embed_star.errors import InputFileError
from embed_star.importing.fields import Maps, is_repository, mapped, may_be_repository
from embed_star.importing.nesting import Nesting
from embed_star.importing.repo import MAX_DEPTH, BadLine, Row, shown, to_row
from embed_star.importing.window import (
    MAX_ROW_CHARS,
    STRING,
    TOO_LONG,
    Unread,
    Window,
    braces_end,
)

LOOK_AHEAD_CHARS = 1024 * 1024
"""A longer object is judged by its keys up to there."""
MAX_WRAPS = 64
"""Most objects and arrays around a row."""

_DECODER = json.JSONDecoder()

# Between rows: what separates them, a bracket, a key, or something that is no row.
# (`\s` has the record separator of RFC 7464; a byte order mark is where files were joined.)
_BETWEEN = re.compile(
    rf'(?P<gap>[\s,\ufeff]+)|(?P<bracket>[\[\]{{}}])|(?P<word>{STRING}"?(?:\s*(?P<colon>:))?'
    r'|[^\s,\[\]{}"\ufeff]+)'
)


def json_rows(
    window: Window, maps: Maps, name: str, *, by_lines: bool = False
) -> Iterator[Row | BadLine]:
    """The rows of a JSON text, in order; the module's docstring says what a row is.

    With `by_lines` each row is expected to be one line, so a broken one ends with its line.
    Without, it ends with its brace, and reports count rows, since all may be on one line.
    Raises InputFileError when the text is nested deeper than MAX_WRAPS, and at the end when
    no row had a value where `maps` says.
    """
    return _Walk(window, maps, name, by_lines).rows()


class _Walk:
    def __init__(self, window: Window, maps: Maps, name: str, by_lines: bool) -> None:
        self._window, self._maps, self._name, self._by_lines = window, maps, name, by_lines
        self._nesting = Nesting(by_lines=by_lines)
        self._unmapped = set(maps)
        """Fields that no row so far had where `maps` says."""
        self._has_row = False
        self._is_whole = True

    def rows(self) -> Iterator[Row | BadLine]:
        window = self._window
        while window.at < len(window.text) or window.fill():
            part = _BETWEEN.match(window.text, window.at)
            if part is None:  # an empty piece
                continue
            if part["gap"]:
                window.take(part.end())
                if "\n" in part["gap"]:
                    window.indent = part["gap"].rpartition("\n")[2].lstrip("\ufeff\x1e")
            elif part["bracket"] == "{":
                yield from self._object()
            elif part["bracket"]:
                yield from self._bracket(part["bracket"])
            elif self._may_go_on(part) and window.fill():
                continue  # a word, or the colon after it, may go on
            elif part["colon"] and (inner := self._nesting.inner) and inner.bracket == "{":
                inner.add_key(window.take(part.end()).rstrip(": \t\r\n").strip('"'))
            else:
                yield from self._word(part)
        yield from self._end()

    def _end(self) -> Iterator[BadLine]:
        if (inner := self._nesting.inner) and self._is_whole:
            kind = {"[": "an array", "{": "an object"}[inner.bracket]
            yield BadLine(self._window.line, f"ends inside {kind}: it was cut short")
        if self._unmapped and self._has_row:
            theirs = ", ".join(shown(self._maps[one]) for one in sorted(self._unmapped))
            raise InputFileError(f"{self._name} has no row with a value at {theirs}, as --map says")

    def _may_go_on(self, word: re.Match[str]) -> bool:
        # A backslash that ends the window is half of an escape.
        reaches_end = self._window.text[word.end() : word.end() + 2] in ("", "\\")
        return reaches_end and word.end() - word.start() < MAX_ROW_CHARS

    def _word(self, part: re.Match[str]) -> Iterator[Row | BadLine]:
        """A scalar: a member of an object, a bad row, or no JSON at all."""
        window, nesting, line = self._window, self._nesting, self._window.line
        nesting.add_part()
        if part.end() - part.start() >= MAX_ROW_CHARS:
            if not window.skip_row():
                self._is_whole = False
            yield from nesting.bad_row(line, TOO_LONG)
        elif nesting.is_in("{"):
            window.take(part.end())
        elif not nesting and self._by_lines:
            yield from self._stray()
        else:
            window.take(part.end())
            if part[0] != "null" or not nesting.is_inside("{"):
                yield from nesting.bad_row(line, "a row must be a JSON object")

    def _stray(self) -> Iterator[BadLine]:
        """Report the rest of a line, which is no row."""
        window, line = self._window, self._window.line
        is_after = self._nesting.has_row_on(line)
        rest = window.rest_of_line(MAX_ROW_CHARS)
        window.take(window.at + len(rest) if rest else len(window.text))
        if is_after:
            why = "not JSON: Extra data"
        else:
            why = self._fault_of(line, rest) if rest else TOO_LONG
        yield from self._nesting.bad_row(line, why)

    def _bracket(self, bracket: str) -> Iterator[Row | BadLine]:
        window, nesting, line = self._window, self._nesting, self._window.line
        if bracket == "[":
            self._enter("[")
            return
        if self._by_lines and not nesting:
            yield from self._stray()
            return
        window.take(window.at + 1)
        if bracket == "]":  # also ends the objects in it that were never closed
            while nesting.is_in("{") and nesting.is_inside("["):
                yield from nesting.leave()
        if nesting.is_in({"]": "[", "}": "{"}[bracket]):
            yield from nesting.leave()
        elif bracket == "}":
            yield from nesting.bad_row(line, "a row must be a JSON object, and no { was open")

    def _enter(self, bracket: str) -> None:
        window = self._window
        if len(self._nesting) >= MAX_WRAPS:
            raise InputFileError(
                f"{self._name} is nested deeper than {MAX_WRAPS} levels at line "
                f"{window.line}: it is no list of repositories"
            )
        self._nesting.enter(bracket, window.line)
        window.take(window.at + 1)

    def _object(self) -> Iterator[Row | BadLine]:
        window, line = self._window, self._window.line
        found = window.decode(min(LOOK_AHEAD_CHARS, MAX_ROW_CHARS))
        if found is Unread.LONG:
            if not may_be_repository(window.keys(LOOK_AHEAD_CHARS), self._maps):
                self._enter("{")
                return
            found = window.decode(MAX_ROW_CHARS)
        if isinstance(found, Unread):
            yield from self._unread(line)
            return
        value, end = found
        if is_repository(value, self._maps):
            window.take(end)
            yield from self._row(line, value)
        elif self._nesting.is_inside("{") and not value.get("node", value):
            window.take(end)  # GraphQL's answer for a node that is no repository, or hidden
        elif any(isinstance(part, dict | list) for part in value.values()):
            self._enter("{")
        else:
            window.take(end)
            if not self._nesting.is_in("{"):
                yield from self._row(line, value)

    def _row(self, line: int, value: Any) -> Iterator[Row | BadLine]:
        row = to_row(line, value, self._maps)
        if isinstance(row, BadLine):
            is_repo = is_repository(value, self._maps)
            yield from self._nesting.bad_row(line, row.reason, is_repository=is_repo)
            return
        self._has_row = True
        if self._unmapped:
            self._unmapped -= mapped(value, self._maps)
        yield from self._nesting.good_row(line)
        yield row

    def _unread(self, line: int) -> Iterator[BadLine]:
        """Report a broken or an over-long object, and move behind it."""
        window = self._window
        if self._by_lines and (rest := window.rest_of_line(MAX_ROW_CHARS)) is not None:
            text = window.take(window.at + braces_end(rest))
            why = self._fault_of(line, text)
            yield from self._nesting.bad_row(line, why, is_repository=True)
            return
        why = "its { is never closed"
        try:
            end = window.object_end(MAX_ROW_CHARS)
        except ValueError as error:
            end, why = None, str(error)
        if end is not None:
            why = self._fault_of(line, window.take(end))
        elif not window.skip_row():
            self._is_whole = False
            why += "; nothing after it was read"
        yield from self._nesting.bad_row(line, why, is_repository=True)

    def _fault_of(self, line: int, text: str) -> str:
        """Why one JSON text is no row."""
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            return f"not JSON: {error.msg} (character {error.pos + 1})"
        except ValueError:  # Python refuses to convert numbers of more than 4,300 digits
            return "holds an integer beyond 64 bits"
        except RecursionError:
            return f"nested deeper than {MAX_DEPTH} levels"
        row = to_row(line, value, self._maps)
        return row.reason if isinstance(row, BadLine) else "not JSON"
