"""The part of a long JSON text that is in memory, and where things end in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

MAX_ROW_CHARS = 8 * 1024 * 1024
"""A longer row is refused; GitHub's own are about 6,000 characters."""
TOO_LONG = f"longer than {MAX_ROW_CHARS:,} characters"

_DECODER = json.JSONDecoder()
_UNDECIDED_CHARS = 12
"""Of a text that ends too early, the decoder may complain that far before its end: the
longest token without a mark of its own is `-Infinity`, or an escaped surrogate pair."""

STRING = r'"[^"\\\n]*(?:\\[\s\S][^"\\\n]*)*'  # open at its end
# Inside a row: a brace, or a string, so that no brace is looked for in it. JSON strings
# hold no newline: one ends a broken string, so the rows on later lines are safe from it.
_INSIDE = re.compile(rf'[{{}}]|{STRING}["\n]|"')
_COLON = re.compile(r"\s*:")
_LINE_END = re.compile(r"[\n\x1e]")  # a record separator (RFC 7464) is in no valid JSON


class Unread(Enum):
    """Why an object could not be decoded."""

    BROKEN = auto()
    LONG = auto()
    """It does not end within the limit."""


class Window:
    """A text of which `at` is the next character; what is before it may be gone."""

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

    def decode(self, limit: int) -> tuple[Any, int] | Unread:
        """The JSON value that begins at `at`, and where it ends.

        Reads on as long as more text could complete it, up to `limit` characters. How
        the text came in pieces makes no difference.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                return (value, end) if end - self.at <= limit else Unread.LONG
            except json.JSONDecodeError as error:
                if not self._may_go_on(error):
                    return Unread.BROKEN
            except (ValueError, RecursionError):
                return Unread.BROKEN
            if len(self.text) - self.at > limit:
                return Unread.LONG
            # Twice as much each time, so that a long row is not read again and again.
            wanted = 2 * (len(self.text) - self.at)
            if not self.fill():
                return Unread.BROKEN
            while len(self.text) < min(wanted, limit + 1) and self.fill():
                pass

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        unfinished = error.msg.startswith("Unterminated string")
        return unfinished or error.pos >= len(self.text) - _UNDECIDED_CHARS

    def keys(self, limit: int) -> list[str]:
        """The keys of the object at `at` itself, as far as `limit` characters show them."""
        text = self.text[self.at : self.at + limit]
        depth, found = 0, []
        for part in _INSIDE.finditer(text):
            depth += {"{": 1, "}": -1}.get(part[0], 0)
            if depth == 1 and len(part[0]) > 1 and _COLON.match(text, part.end()):
                found.append(part[0][1:-1])
        return found

    def rest_of_line(self, limit: int) -> str | None:
        """What is left of the line at `at`, without moving; None when it is over-long."""
        scan = self.at
        while (match := _LINE_END.search(self.text, scan)) is None:
            if len(self.text) - self.at > limit:
                return None
            scan = len(self.text) - self.at
            if not self.fill():
                return self.text[self.at :]
        return self.text[self.at : match.start()]

    def skip_row(self) -> bool:
        """Move to where the next row seems to begin: a line indented like the last one.

        False when there is none; the text then is at its end.
        """
        mark = re.compile(rf"\n[\x1e\ufeff]?{re.escape(self.indent)}\{{")
        most = len(self.indent) + 3
        while (found := mark.search(self.text, self.at)) is None:
            self.take(max(self.at, len(self.text) - most))  # the mark may be half there
            if not self.fill():
                self.take(len(self.text))
                return False
        self.take(found.start())
        return True

    def object_end(self, limit: int) -> int | None:
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
            if len(self.text) > limit:
                raise ValueError(TOO_LONG)
            if not self.fill():
                return None


def braces_end(text: str) -> int:
    """Where the object that `text` begins with ends by its braces, else its length."""
    depth = 0
    for part in _INSIDE.finditer(text):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    return len(text)
