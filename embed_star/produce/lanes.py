"""Reads the outbox's lanes, page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from embed_star.models import Lane, Pending, Space
from embed_star.store.tables.outbox import Outbox, group, ulid_of_ms

log = structlog.get_logger(__name__)

PAGE_ROWS = 500
"""Most records of a page: 0.02 ms each on 3.3.5, so a page takes 10 ms."""

OVERLAP_MS = 500
"""At a lane's end, the next page begins this far before the present: a slow transaction
commits its record after younger ones. A `rewind` finds the records of still slower ones."""


@dataclass(frozen=True, slots=True)
class Page:
    """Pending rows of one lane."""

    lane: Lane
    rows: Sequence[Pending]
    last: str
    """The ULID of its last record."""
    is_last: bool
    """Whether it reaches the lane's end."""


class Lanes:
    """A position in each lane, from which the next page is read. Not thread-safe."""

    def __init__(
        self, outbox: Outbox, space: Space, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._outbox = outbox
        self._space = space
        self._wall_clock = wall_clock
        self._after = dict.fromkeys(Lane, "")

    def rewind(self) -> None:
        """Read all lanes from their beginning again.

        Finds rows whose locks ended without a result, and records that were committed late.
        """
        self._after = dict.fromkeys(Lane, "")

    def read(self, lane: Lane, records: int) -> Page | None:
        """The page of at most `records` records at the lane's position; None at its end.

        Saves rows with unusable keys as failed. A second call reads the same page, until
        `advance`. Raises StoreUnavailable.
        """
        entries = self._outbox.page(lane, self._after[lane], records)
        if not entries:
            return None
        unusable = [entry.id for entry in entries if entry.key is None]
        if unusable:
            log.error("keys_not_usable", rows=len(unusable))
            self._outbox.fail_unusable(unusable, self._space)
        rows = [Pending(key, ids, size) for key, ids, size in group(entries)]
        return Page(lane, rows, last=entries[-1].id[1], is_last=len(entries) < records)

    def advance(self, page: Page) -> None:
        """Move the lane's position behind `page`."""
        recently = ulid_of_ms(round(self._wall_clock() * 1000) - OVERLAP_MS)
        self._after[page.lane] = min(page.last, recently) if page.is_last else page.last
