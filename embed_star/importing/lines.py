"""The lines of a text, for tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from embed_star.importing.window import MAX_ROW_CHARS, TOO_LONG


class Lines:
    r"""The lines of a text. A line that is too long raises ValueError instead.

    Iteration may go on after that. Only `\n` ends a line.
    """

    def __init__(self, text: Iterator[str]) -> None:
        self.number = 0
        """The number of the last line; the first is 1."""
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


class Replay:
    """Lines that can be read again from the second one of a broken record."""

    def __init__(self, lines: Lines) -> None:
        self.number = 0
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []

    def __iter__(self) -> Replay:
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
        """Begin a record; the number of its first line."""
        self._taken.clear()
        return self.number + 1

    def back(self) -> None:
        """Go back to the second line since `begin`."""
        self.number -= len(self._taken[1:])
        self._again.extendleft(reversed(self._taken[1:]))
