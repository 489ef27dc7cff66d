"""JSON arrays, several of them, arrays of arrays, and objects spread over lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from embed_star.importing.lines import MAX_ROW_CHARS, TOO_LONG, parse
from embed_star.importing.repo import BadLine, Row, to_row

_DECODER = json.JSONDecoder()

_STRING = r'"[^"\\\n]*(?:\\[\s\S][^"\\\n]*)*'  # open at its end
# Between rows: what separates them, a bracket, a row's `{`, or something that is no row.
_BETWEEN = re.compile(rf'(?P<gap>[\s,]+)|(?P<mark>[\[\]{{])|{_STRING}"?|[^\s,\[\]{{"]+')
# Inside a row: a brace, or a string, so that no brace is looked for in it. JSON strings
# hold no newline: one ends a broken string, so the rows on later lines are safe from it.
_INSIDE = re.compile(rf'[{{}}]|{_STRING}["\n]|"')


class Window:
    """The part of a text that is in memory; `at` is the next character in it."""

    def __init__(self, text: Iterator[str]) -> None:
        self.text = ""
        self.at = 0
        self.line = 1
        """Of the character at `at`."""
        self.indent = ""
        """What stands before the last row that began a line."""
        self._more = text

    def fill(self) -> bool:
        """Let go of what is before `at`, append a piece; False when there is none."""
        piece = next(self._more, None)
        if piece is None:
            return False
        self.text = self.text[self.at :] + piece
        self.at = 0
        return True

    def take(self, end: int) -> str:
        """The text from `at` up to `end`, and move there."""
        taken = self.text[self.at : end]
        self.line += taken.count("\n")
        self.at = end
        return taken

    def skip_row(self) -> bool:
        """Move to where the next row seems to begin: a line indented like the last one.

        False when there is none; the text then is at its end.
        """
        mark = f"\n{self.indent}{{"
        while (end := self.text.find(mark, self.at)) < 0:
            self.take(max(self.at, len(self.text) - len(mark)))  # the mark may be half there
            if not self.fill():
                self.take(len(self.text))
                return False
        self.take(end)
        return True

    def object_end(self) -> int | None:
        """Where the object at `at` ends by its braces, whether it is well-formed or not.

        None when the text ends first. Raises ValueError when the object is over-long.
        """
        self.text, self.at = self.text[self.at :], 0
        scan, depth = 0, 0
        while True:
            for part in _INSIDE.finditer(self.text, scan):
                if part[0] == '"':  # a string whose end is not in the window yet
                    break
                scan = part.end()
                depth += {"{": 1, "}": -1}.get(part[0], 0)
                if not depth:
                    return scan
            if len(self.text) > MAX_ROW_CHARS:
                raise ValueError(TOO_LONG)
            if not self.fill():
                return None


def json_rows(window: Window) -> Iterator[Row | BadLine]:
    """Rows of any number of arrays, or of bare objects, one after another.

    Every object outside of objects is a row, so arrays of arrays (`gh api --slurp`)
    need no case of their own. As a whole array often is one line, reasons count rows.
    """
    count, open_arrays, whole = 0, 0, True
    while window.at < len(window.text) or window.fill():
        part = _BETWEEN.match(window.text, window.at)
        if part is None:  # an empty piece
            continue
        if part["gap"]:
            window.take(part.end())
            if "\n" in part["gap"]:
                window.indent = part["gap"].rpartition("\n")[2]
        elif part["mark"] in ("[", "]"):
            window.take(part.end())
            open_arrays = max(0, open_arrays + (1 if part["mark"] == "[" else -1))
        else:
            count += 1
            line = window.line
            row = _object(window) if part["mark"] else _no_object(window, part.end())
            if isinstance(row, _CutShort):
                whole = False
            yield row if isinstance(row, Row) else BadLine(line, f"row {count}: {row.reason}")
    if open_arrays and whole:
        yield BadLine(window.line, "ends inside an array: it was cut short")


class _CutShort(BadLine):
    """Nothing can be read after it."""


def _no_object(window: Window, end: int) -> BadLine:
    line = window.line
    window.take(end)
    return BadLine(line, "a row must be a JSON object")


def _object(window: Window) -> Row | BadLine:
    line = window.line
    try:
        value, end = _DECODER.raw_decode(window.text, window.at)
    except (ValueError, RecursionError):
        return _bad_or_longer(window)
    window.take(end)
    return to_row(line, value)


def _bad_or_longer(window: Window) -> Row | BadLine:
    # Its braces tell whether it is wrong, or only not all in the window.
    line, why = window.line, "its { is never closed"
    try:
        end = window.object_end()
    except ValueError as error:
        end, why = None, str(error)
    if end is not None:
        return parse(line, window.take(end))
    if window.skip_row():
        return BadLine(line, why)
    return _CutShort(line, f"{why}; nothing after it was read")
