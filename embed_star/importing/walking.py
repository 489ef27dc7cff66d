"""Repositories in JSON of any form: lines, arrays, answers of an API, one after another.

The text is walked, never held. An object that says which repository it is, is a row,
wherever it stands; an object that does not is looked into. So arrays of arrays
(`gh api --slurp`), `{"items": […]}` and `{"data": {… {"edges": [{"node": …}]}}}` need no
case of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from embed_star.errors import InputFileError
from embed_star.importing.fields import Maps, is_repository, mapped, may_be_repository
from embed_star.importing.repo import MAX_DEPTH, BadLine, Row, shown, to_row, unnamed
from embed_star.importing.window import (
    MAX_ROW_CHARS,
    STRING,
    TOO_LONG,
    Unread,
    Window,
    braces_end,
)

LOOK_AHEAD_CHARS = 1024 * 1024
"""An object that goes on for longer is judged by the keys it has so far."""
MAX_WRAPS = 64
"""Objects and arrays around a row."""

_LISTS = frozenset(["items", "nodes", "edges", "repositories", "repos", "results", "stars"])
"""Names of lists of repositories: what is no repository in them is a bad row, even when
none is one."""
_KEPT = 100  # elements of a list that may turn out to be one of repositories, and their keys
_DECODER = json.JSONDecoder()

# Between rows: what separates them, a bracket, or a key, or something that is no row.
# (`\s` has the record separator of RFC 7464; a byte order mark is where files were joined.)
_BETWEEN = re.compile(
    rf'(?P<gap>[\s,\ufeff]+)|(?P<mark>[\[\]{{}}])|(?P<word>{STRING}"?(?:\s*(?P<colon>:))?'
    r'|[^\s,\[\]{}"\ufeff]+)'
)


@dataclass(slots=True)
class _Around:
    """An object or an array that is being walked."""

    mark: str
    name: str
    line: int
    is_member: bool
    """Of an object that is walked, too: it need not be a repository."""
    rows: int = 0
    bad: int = 0
    parts: int = 0
    key: str = ""
    """An object's key before what comes next."""
    keys: list[str] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    """Bad rows of an array, if it is one of repositories."""
    holds_empty_list: bool = False


def json_rows(
    window: Window, maps: Maps, name: str, *, by_lines: bool = False
) -> Iterator[Row | BadLine]:
    """The rows of a JSON text in order; see the module.

    `by_lines`: a row is expected to be one line, so that a broken one ends with it.
    Otherwise it ends with its brace, and reasons count rows, as all may be one line.
    Raises InputFileError for what is nested beyond reason, and at the end when no row had
    anything where `maps` says.
    """
    return _Walk(window, maps, name, by_lines).rows()


class _Walk:
    def __init__(self, window: Window, maps: Maps, name: str, by_lines: bool) -> None:
        self._window, self._maps, self._name, self._by_lines = window, maps, name, by_lines
        self._around: list[_Around] = []
        self._unmapped = set(maps)
        """Fields that no row so far had where `maps` says."""
        self._has_row = False
        self._count = 0
        self._last_line = 0
        self._on_line = 0
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
            elif part["mark"] == "{":
                yield from self._object()
            elif part["mark"]:
                yield from self._bracket(part["mark"])
            elif self._may_go_on(part) and window.fill():
                continue  # a word, or the colon after it, may go on
            elif part["colon"] and self._around and self._around[-1].mark == "{":
                self._key(window.take(part.end()))
            else:
                yield from self._word(part)
        yield from self._end()

    def _end(self) -> Iterator[BadLine]:
        if self._around and self._is_whole:
            inside = {"[": "an array", "{": "an object"}[self._around[-1].mark]
            yield BadLine(self._window.line, f"ends inside {inside}: it was cut short")
        if self._unmapped and self._has_row:
            theirs = ", ".join(shown(self._maps[one]) for one in sorted(self._unmapped))
            raise InputFileError(f"{self._name} has no row with a value at {theirs}, as --map says")

    def _may_go_on(self, word: re.Match[str]) -> bool:
        # A backslash that ends the window is half of an escape.
        reaches_end = self._window.text[word.end() : word.end() + 2] in ("", "\\")
        return reaches_end and word.end() - word.start() < MAX_ROW_CHARS

    def _key(self, text: str) -> None:
        around = self._around[-1]
        around.key = text.rstrip(": \t\r\n").strip('"')
        if len(around.keys) < _KEPT:
            around.keys.append(around.key)

    def _word(self, part: re.Match[str]) -> Iterator[Row | BadLine]:
        """A scalar: a member, a bad row, or what is no JSON at all."""
        window, line = self._window, self._window.line
        around = self._around[-1] if self._around else None
        if around:
            around.parts += 1
        if part.end() - part.start() >= MAX_ROW_CHARS:
            if not window.skip_row():
                self._is_whole = False
            yield from self._bad(line, TOO_LONG)
        elif around and around.mark == "{":
            window.take(part.end())
        elif around is None and self._by_lines:
            yield from self._stray()
        else:
            window.take(part.end())
            if part[0] != "null" or not self._is_inside():
                yield from self._bad(line, "a row must be a JSON object")

    def _stray(self) -> Iterator[BadLine]:
        """The rest of a line is no row."""
        window, line = self._window, self._window.line
        is_after = self._last_line == line
        rest = window.rest_of_line(MAX_ROW_CHARS)
        window.take(window.at + len(rest) if rest else len(window.text))
        if is_after:
            yield from self._bad(line, "not JSON: Extra data")
        else:
            yield from self._bad(line, self._parsed(line, rest) if rest else TOO_LONG)

    def _bracket(self, mark: str) -> Iterator[Row | BadLine]:
        window = self._window
        line = window.line
        if mark == "[":
            self._enter("[")
            return
        if self._by_lines and not self._around:
            yield from self._stray()
            return
        window.take(window.at + 1)
        if mark == "]":
            while self._around and self._around[-1].mark == "{" and self._is_inside("["):
                yield from self._leave()
        if self._around and self._around[-1].mark == {"]": "[", "}": "{"}[mark]:
            yield from self._leave()
        elif mark == "}":
            yield from self._bad(line, "a row must be a JSON object, and no { was open")

    def _enter(self, mark: str) -> None:
        outer = self._around[-1] if self._around else None
        if len(self._around) >= MAX_WRAPS:
            raise InputFileError(
                f"{self._name} is nested deeper than {MAX_WRAPS} levels at line "
                f"{self._window.line}: it is no list of repositories"
            )
        name = (outer.key or outer.name) if outer else ""
        is_member = bool(outer and outer.mark == "{")
        if outer:
            outer.parts += 1
        self._around.append(_Around(mark, name, self._window.line, is_member))
        self._window.take(self._window.at + 1)

    def _leave(self) -> Iterator[Row | BadLine]:
        """An object or an array ends; one that held nothing may have been a bad row."""
        ended = self._around.pop()
        outer = self._around[-1] if self._around else None
        if outer:
            outer.rows += ended.rows
            outer.bad += ended.bad
            empty = ended.mark == "[" and not ended.parts
            outer.holds_empty_list |= empty or ended.holds_empty_list
        if ended.mark == "[" or ended.is_member or ended.rows or ended.bad:
            return
        if not ended.holds_empty_list or not _is_wrapper(ended.keys):
            yield from self._bad(ended.line, unnamed(ended.keys))

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
        elif any(isinstance(part, dict | list) for part in value.values()):
            self._enter("{")
        elif self._is_inside() and (not value or value.get("node", value) is None):
            window.take(end)  # GraphQL's words for what is no repository, or not to be seen
        else:
            window.take(end)
            if not (self._around and self._around[-1].mark == "{"):
                yield from self._row(line, value)

    def _row(self, line: int, value: Any) -> Iterator[Row | BadLine]:
        row = to_row(line, value, self._maps)
        if isinstance(row, BadLine):
            yield from self._bad(line, row.reason, is_repository=is_repository(value, self._maps))
            return
        self._has_row = True
        if self._unmapped:
            self._unmapped -= mapped(value, self._maps)
        yield from self._release()
        self._numbered(line)
        for around in self._around:
            around.rows += 1
        if self._around:
            self._around[-1].parts += 1
        yield row

    def _bad(self, line: int, why: str, *, is_repository: bool = False) -> Iterator[BadLine]:
        """A bad row; in a list that may be of something else, kept until that is known."""
        around = self._around[-1] if self._around else None
        if around and not is_repository and self._is_inside() and not around.rows:
            around.parts += 1
            if around.name not in _LISTS or self._is_in_list():
                if len(around.held) < _KEPT:
                    around.held.append((line, why))
                return
        for one in self._around:
            one.bad += 1
        yield BadLine(line, f"{self._numbered(line)}{why}")

    def _release(self) -> Iterator[BadLine]:
        """A row proves that the list around it is one of repositories."""
        if self._around and self._around[-1].held:
            held, self._around[-1].held = self._around[-1].held, []
            for around in self._around:
                around.bad += len(held)
            for line, why in held:
                yield BadLine(line, f"{self._numbered(line)}{why}")

    def _is_inside(self, mark: str = "{") -> bool:
        return any(around.mark == mark for around in self._around)

    def _is_in_list(self) -> bool:
        """Whether what is walked is inside an element of another list of an object."""
        marks = "".join(around.mark for around in self._around).lstrip("[")
        return marks.count("[") > 1

    def _numbered(self, line: int) -> str:
        """Which one of its line a row is, where that is to be said."""
        self._count += 1
        self._on_line = self._on_line + 1 if line == self._last_line else 1
        self._last_line = line
        if not self._by_lines:
            return f"row {self._count}: "
        return f"object {self._on_line} of the line: " if self._on_line > 1 else ""

    def _unread(self, line: int) -> Iterator[BadLine]:
        """Report a broken or an over-long object, and go to what comes after it."""
        window = self._window
        if self._by_lines and (rest := window.rest_of_line(MAX_ROW_CHARS)) is not None:
            text = window.take(window.at + braces_end(rest))
            yield from self._bad(line, self._parsed(line, text), is_repository=True)
            return
        why = "its { is never closed"
        try:
            end = window.object_end(MAX_ROW_CHARS)
        except ValueError as error:
            end, why = None, str(error)
        if end is not None:
            why = self._parsed(line, window.take(end))
        elif not window.skip_row():
            self._is_whole = False
            why += "; nothing after it was read"
        yield from self._bad(line, why, is_repository=True)

    def _parsed(self, line: int, text: str) -> str:
        """What is wrong with one JSON text."""
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


def _is_wrapper(keys: list[str]) -> bool:
    return bool(_LISTS & {*keys}) or bool({"data", "search"} & {*keys})
