"""Writes rows to the database in pages, and explains the rows that it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from embed_star.errors import StoreAuthError, StoreError, TransientError, WriteConflict
from embed_star.importing.repo import BadLine, Repo, Row
from embed_star.models import Key, Lane, key_text
from embed_star.store.client import codec

PAGE_ROWS = 500
PAGE_BYTES = 8 * 1024 * 1024
"""The most bytes of a page's encoded rows: one page is one message to SurrealDB."""
SHOWN_BAD_LINES = 20
SHOWN_LINES = 5
LEFT_OUT_REASONS = 100
"""The most reasons that are told apart: the keys of objects in a file may be anything."""
OTHERS = "other fields that cannot be read"

Rows = Iterable[Row | BadLine]


class Sink(Protocol):
    """Takes pages of rows. A call writes all or nothing; a second call changes nothing."""

    def upsert_repos(self, rows: Sequence[tuple[Key, dict[str, Any]]], *, lane: int) -> int:
        """Create or update rows of (key, fields), announced in `lane`; the number written."""

    def check_rights(self) -> None:
        """Raise StoreAuthError when the user may not write at all."""

    def etags(self, keys: Sequence[Key]) -> Sequence[str]:
        """The ETag of the README of each of `keys`; empty where none is known."""

    def rows(self) -> Iterator[Row]:
        """The rows of the table, each with its full name alone; its place is its line."""


class StoreSink:
    """The database as a Sink."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def upsert_repos(self, rows: Sequence[tuple[Key, dict[str, Any]]], *, lane: int) -> int:
        return int(self._store.repos.upsert(rows, lane=lane))

    def check_rights(self) -> None:
        self._store.database.check_rights()

    def etags(self, keys: Sequence[Key]) -> Sequence[str]:
        found = self._store.readmes.etags(keys)
        return [found.get(key_text(key), "") for key in keys]

    def rows(self) -> Iterator[Row]:
        place, after = 0, None
        while True:
            page, after = self._store.readmes.page(after, PAGE_ROWS)
            for one in page:
                place += 1
                yield Row(place, Repo(one.key, {"full_name": one.full_name}))
            if after is None:
                return


@dataclass(slots=True)
class LeftOut:
    """A field that was left out of rows, and why."""

    reason: str
    rows: int = 0
    lines: list[int] = field(default_factory=list)
    """The first ones."""


@dataclass(slots=True)
class Summary:
    """Counts of the rows of an import.

    A duplicate is a row whose key came before. In the same page the last one wins. In a later
    page it is written again and counts as both. A dry run writes nothing. Example: a, b, a in
    one page are 3 read, 2 written and 1 duplicate.
    """

    source: str
    lane: str
    dry_run: bool
    read: int = 0
    written: int = 0
    bad: int = 0
    """Rows left out; those that the database refused, too."""
    duplicates: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    """The first ones."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Fields that could not be read, of rows that are good without them."""

    def count_bad(self, row: BadLine) -> None:
        self.bad += 1
        if self.bad <= SHOWN_BAD_LINES:
            self.bad_lines.append(row)

    def count_left_out(self, line: int, reasons: Iterable[str]) -> None:
        for reason in reasons:
            known = self._left_out_for(reason)
            known.rows += 1
            if len(known.lines) < SHOWN_LINES:
                known.lines.append(line)

    def _left_out_for(self, reason: str) -> LeftOut:
        for one in self.left_out:
            if one.reason == reason:
                return one
        if len(self.left_out) >= LEFT_OUT_REASONS and reason != OTHERS:
            return self._left_out_for(OTHERS)
        self.left_out.append(LeftOut(reason))
        return self.left_out[-1]


class _Written(NamedTuple):
    line: int
    key: Key
    fields: dict[str, Any]


def write_rows(rows: Rows, sink: Sink | None, lane: Lane, summary: Summary) -> None:
    """Write the good rows in pages and count into `summary`; no sink: only count.

    A row that the database refuses becomes a bad line; the others of its page are written.
    Other errors of `rows` and `sink` are raised, and `summary` then has the counts so far. What
    was read before a TransientError, or before Ctrl-C, is written: it may have cost requests.
    """
    pages = _Pages(sink, lane, summary)
    try:
        for row in rows:
            pages.take(row)
    except (TransientError, KeyboardInterrupt):
        pages.flush()
        raise
    pages.flush()


class _Pages:
    """Gathers rows into pages, and writes these."""

    def __init__(self, sink: Sink | None, lane: Lane, summary: Summary) -> None:
        self._sink, self._lane, self._summary = sink, lane, summary
        self._seen: set[int] = set()  # hashes: 12 MB for the 170,000 rows of a file of 1 GB
        self._page: dict[str, _Written] = {}
        self._page_bytes = 0

    def take(self, row: Row | BadLine) -> None:
        summary = self._summary
        summary.read += 1
        if isinstance(row, BadLine):
            summary.count_bad(row)
            return
        key, fields = row.repo
        text = key_text(key)
        summary.count_left_out(row.line, row.left_out)
        summary.duplicates += hash(text) in self._seen
        self._seen.add(hash(text))
        row_bytes = len(codec.encode(fields))
        if self._page_bytes + row_bytes > PAGE_BYTES:
            self.flush()
        self._page[text] = _Written(row.line, key, fields)
        self._page_bytes += row_bytes
        if len(self._page) >= PAGE_ROWS:
            self.flush()

    def flush(self) -> None:
        page = list(self._page.values())
        self._page.clear()
        self._page_bytes = 0
        if page and self._sink:
            _write(page, self._sink, self._lane, self._summary)


def _write(page: Sequence[_Written], sink: Sink, lane: Lane, summary: Summary) -> None:
    """Write `page`; halve a refused one until each refused row is alone."""
    try:
        summary.written += sink.upsert_repos(
            [(row.key, row.fields) for row in page], lane=int(lane)
        )
        return
    except (StoreError, WriteConflict) as error:
        if isinstance(error, StoreAuthError):
            # A message from a user's own event may look like missing rights: check them.
            sink.check_rights()
        if len(page) == 1:
            summary.count_bad(BadLine(page[0].line, f"the database refused it: {refusal(error)}"))
            return
    half = len(page) // 2
    _write(page[:half], sink, lane, summary)
    _write(page[half:], sink, lane, summary)


# The database's message contains the refused value. Only the words around it are repeated.
_REASONS = (
    (r"Found .*for field `([^`]+)`, with record .* must conform to: (.{1,120})",
     "the field {0} must conform to {1}"),
    (r"Found .*for field `([^`]+)`, with record .* but expected an? (.{1,120})",
     "the field {0} must be {1}"),
    (r"Couldn't coerce value for field `([^`]+)` of .*?: Expected `([^`]+)` but found .*",
     "the field {0} must be {1}"),
    (r"(?:Database )?index `([^`]+)` already contains .*",
     "another row has its value in the unique index {0}"),
    (r"(?!Found ).*?An error occurred: (.*?)\)?", "{0}"),
)  # fmt: skip
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_SHOWN_CHARS = 160


def refusal(error: Exception) -> str:
    """Why the database refused a row, in a few words and without the row's values."""
    return _in_words(" ".join(str(error).split()).removeprefix("SurrealDB: "))[:_SHOWN_CHARS]


def _in_words(message: str) -> str:
    if found := re.fullmatch(r"Error while processing event (\S{1,80}): (.*)", message):
        return f"its event {found[1]}: {_in_words(found[2])}"
    for pattern, words in _REASONS:
        if found := re.fullmatch(pattern, message):
            return words.format(*found.groups())
    return re.split("['\"]", _QUOTED.sub("…", message))[0]


def in_words(summary: Summary) -> Iterator[str]:
    """A line for each field that was left out."""
    for one in summary.left_out:
        lines = ", ".join(f"{line}" for line in one.lines)
        more = ", …" if one.rows > len(one.lines) else ""
        yield (
            f"{summary.source}: {one.reason}: left out of {one.rows:,} rows that were kept "
            f"(lines {lines}{more})"
        )
