"""Which rows are being worked on, or will be: the reconcile need not announce them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from embed_star.models import Key, Lane, OutboxId, key_text
from embed_star.produce.lanes import PAGE_ROWS
from embed_star.store.tables.outbox import Outbox

MOST_RECORDS = 10_000
"""Records of a lane that are looked at: the reconcile seldom walks while there are more."""


class LiveLocks(Protocol):
    """The lock table: `store.tables.locks.LockTable`, or in memory."""

    def live(self, keys: Sequence[Key]) -> list[bool]:
        """Whether anybody's lock on each is still running."""


class Sorted(NamedTuple):
    """Rows by what is under way."""

    claimed: list[Key]
    free: list[Key]
    """Neither claimed nor pending."""


class UnderWay:
    """Tells the rows that runs hold, and those with records in the outbox, from the others.

    The outbox has no index by row, so its records are read once, and later only new ones are
    read. A record that is committed behind younger ones is missed; its row is then announced
    twice, and costs a read. Not thread-safe.
    """

    def __init__(self, outbox: Outbox, locks: LiveLocks) -> None:
        self._outbox = outbox
        self._locks = locks
        self.forget()

    def forget(self) -> None:
        """Read the outbox from its beginning the next time."""
        self._after = dict.fromkeys(Lane, "")
        self._read = dict.fromkeys(Lane, 0)
        self._records: dict[str, list[OutboxId]] = {}

    def sort(self, keys: Sequence[Key]) -> Sorted:
        """Those of `keys` that are claimed, and those that are free. Raises StoreError.

        A pending row that nobody holds is in neither: its run will read the present text.
        """
        if not keys:
            return Sorted([], [])
        live = self._locks.live(keys)
        claimed = [key for key, held in zip(keys, live, strict=True) if held]
        others = [key for key, held in zip(keys, live, strict=True) if not held]
        pending = self._pending(others)
        return Sorted(claimed, [key for key in others if key_text(key) not in pending])

    def _pending(self, keys: Sequence[Key]) -> set[str]:
        for lane in Lane:
            self._read_on(lane)
        records = {one: key_text(key) for key in keys for one in self._of(key)}
        if not records:
            return set()
        return {records[one] for one in self._outbox.present(list(records))}

    def _of(self, key: Key) -> Sequence[OutboxId]:
        return self._records.get(key_text(key), ())

    def _read_on(self, lane: Lane) -> None:
        while self._read[lane] < MOST_RECORDS:
            page = self._outbox.page(lane, self._after[lane], PAGE_ROWS)
            for entry in page:
                if entry.key is not None:
                    self._records.setdefault(key_text(entry.key), []).append(entry.id)
            if page:
                self._after[lane] = page[-1].id[1]
                self._read[lane] += len(page)
            if len(page) < PAGE_ROWS:
                return
