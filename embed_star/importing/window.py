"""A window on a long JSON text: the part that is in memory."""

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
"""For a text that ends too early, the decoder reports an error up to this far before the end:
the length of `-Infinity`, or of an escaped surrogate pair."""

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
    """A text with a position `at`. Characters before it may be dropped."""

    def __init__(self, text: Iterator[str]) -> None:
        self.text = ""
        self.at = 0
        self.line = 1
        """The line number at `at`."""
        self.indent = ""
        """The white space before the last row that began a line."""
        self._more = text

    def fill(self) -> bool:
        """Drop the text before `at` and append a piece; False at the end of the text."""
        piece = next(self._more, None)
        if piece is None:
            return False
        self.text = self.text[self.at :] + piece
        self.at = 0
        return True

    def take(self, end: int) -> str:
        """Move to `end`; the text up to there."""
        taken = self.text[self.at : end]
        self.line += taken.count("\n")
        self.at = end
        return taken

    def decode(self, limit: int) -> tuple[Any, int] | Unread:
        """The JSON value that begins at `at`, and its end.

        Reads on as long as more text could complete it, up to `limit` characters. The sizes
        of the pieces make no difference.
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
        """The top-level keys of the object at `at`, within `limit` characters."""
        text = self.text[self.at : self.at + limit]
        depth, found = 0, []
        for part in _INSIDE.finditer(text):
            depth += {"{": 1, "}": -1}.get(part[0], 0)
            if depth == 1 and len(part[0]) > 1 and _COLON.match(text, part.end()):
                found.append(part[0][1:-1])
        return found

    def rest_of_line(self, limit: int) -> str | None:
        """The rest of the line at `at`, without moving; None when it is longer than `limit`."""
        scan = self.at
        while (match := _LINE_END.search(self.text, scan)) is None:
            if len(self.text) - self.at > limit:
                return None
            scan = len(self.text) - self.at
            if not self.fill():
                return self.text[self.at :]
        return self.text[self.at : match.start()]

    def skip_row(self) -> bool:
        """Move to the probable next row: a line indented like the last row.

        False when there is none; the position is then the end of the text.
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
        """The end of the object at `at` by its braces, even if it is malformed.

        None when the text ends first. Raises ValueError when the object is too long.
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
    """The end, by its braces, of the object that `text` begins with; else the text's length."""
    depth = 0
    for part in _INSIDE.finditer(text):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    return len(text)
