"""The objects and arrays around the place that the walk has reached, and the rows in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from embed_star.importing.repo import BadLine, unnamed

_LISTS = frozenset(["items", "nodes", "edges", "repositories", "repos", "results", "stars"])
"""Names of lists of repositories: any other element of such a list is a bad row, even when
the list holds no repository at all."""
_WRAPPER_KEYS = _LISTS | {"data", "search"}
_KEPT = 100  # bad rows that wait in a container, and keys of one


@dataclass(slots=True)
class Container:
    """An object or an array that is being walked."""

    bracket: str
    """`{` or `[`."""
    name: str
    line: int
    is_member: bool
    """Of an object that is walked, too: it need not be a repository."""
    rows: int = 0
    bad: int = 0
    parts: int = 0
    key: str = ""
    """The last key of an object so far."""
    keys: list[str] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    """Lines and reasons of bad rows, reported if this proves to be a list of repositories."""
    holds_empty_list: bool = False

    def add_key(self, key: str) -> None:
        """Note the key of what comes next."""
        self.key = key
        if len(self.keys) < _KEPT:
            self.keys.append(key)


class Nesting:
    """A stack of containers. It counts rows and decides which bad ones are reported.

    A list may be of something else than repositories, such as the topics of one. Its bad
    rows are held until a row proves that it is a list of repositories:

        {"topics": [1, 2]}                       reports nothing for 1 and 2
        {"found": [1, {"full_name": "a/b"}]}     reports 1 when it comes to a/b
    """

    def __init__(self, *, by_lines: bool) -> None:
        self._open: list[Container] = []
        self._by_lines = by_lines
        self._count = 0
        self._last_line = 0
        self._on_line = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def inner(self) -> Container | None:
        """The innermost container; None outside of all."""
        return self._open[-1] if self._open else None

    def is_in(self, bracket: str) -> bool:
        """Whether the innermost container is of this kind, `{` or `[`."""
        return bool(self._open) and self._open[-1].bracket == bracket

    def is_inside(self, bracket: str) -> bool:
        """Whether any container is of this kind."""
        return any(one.bracket == bracket for one in self._open)

    def has_row_on(self, line: int) -> bool:
        """Whether the last row so far, good or bad, is on `line`."""
        return self._last_line == line

    def add_part(self) -> None:
        """Count an element or a member of the innermost container."""
        if self._open:
            self._open[-1].parts += 1

    def enter(self, bracket: str, line: int) -> None:
        """An object or an array begins."""
        outer = self.inner
        name = (outer.key or outer.name) if outer else ""
        self.add_part()
        self._open.append(Container(bracket, name, line, is_member=self.is_in("{")))

    def leave(self) -> Iterator[BadLine]:
        """The innermost container ends; an object without a row may have been a bad one."""
        ended = self._open.pop()
        if outer := self.inner:
            outer.rows += ended.rows
            outer.bad += ended.bad
            is_empty_list = ended.bracket == "[" and not ended.parts
            outer.holds_empty_list |= is_empty_list or ended.holds_empty_list
        if ended.bracket == "[" or ended.is_member or ended.rows or ended.bad:
            return
        if not ended.holds_empty_list or not _WRAPPER_KEYS & {*ended.keys}:
            yield from self.bad_row(ended.line, unnamed(ended.keys))

    def good_row(self, line: int) -> Iterator[BadLine]:
        """Count a row; the bad rows that were held until the list around it had one."""
        inner = self.inner
        if inner and inner.held:
            held, inner.held = inner.held, []
            for one in self._open:
                one.bad += len(held)
            for held_line, why in held:
                yield BadLine(held_line, f"{self._number(held_line)}{why}")
        self._number(line)
        for one in self._open:
            one.rows += 1
        self.add_part()

    def bad_row(self, line: int, why: str, *, is_repository: bool = False) -> Iterator[BadLine]:
        """Report a bad row, or hold it: see the class. One that `is_repository` is reported."""
        inner = self.inner
        if inner and not is_repository and self.is_inside("{") and not inner.rows:
            inner.parts += 1
            if inner.name not in _LISTS or self._is_in_inner_list():
                if len(inner.held) < _KEPT:
                    inner.held.append((line, why))
                return
        for one in self._open:
            one.bad += 1
        yield BadLine(line, f"{self._number(line)}{why}")

    def _is_in_inner_list(self) -> bool:
        """Whether the walk is in a list that is itself inside an element of a list."""
        brackets = "".join(one.bracket for one in self._open).lstrip("[")
        return brackets.count("[") > 1

    def _number(self, line: int) -> str:
        """Count a row on `line`; how a report names it, empty where the line says enough."""
        self._count += 1
        self._on_line = self._on_line + 1 if line == self._last_line else 1
        self._last_line = line
        if not self._by_lines:
            return f"row {self._count}: "
        return f"object {self._on_line} of the line: " if self._on_line > 1 else ""
