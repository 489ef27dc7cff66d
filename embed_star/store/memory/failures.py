"""The failures of one space in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from embed_star.models import Key, Lane, Space
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.tables.failures import RELEASED, Failure


class MemoryFailures:
    """As `store.tables.failures.Failures`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def by_reason(self) -> dict[str, int]:
        with self._database.transaction:
            return dict(
                Counter(one.reason for _, one in self._database.failures if self._counts(one))
            )

    def page(self, after: Key | None, rows: int, reason: str | None = None) -> list[Failure]:
        with self._database.transaction:
            found = self._database.failures.after(after, len(self._database.failures))
        wanted = [one for _, one in found if self._counts(one) and reason in (None, one.reason)]
        return wanted[:rows]

    def find(self, keys: Sequence[Key]) -> list[Failure]:
        with self._database.transaction:
            found = [self._database.failures.get(key) for key in keys]
        return [one for one in found if one is not None and self._counts(one)]

    def release(self, keys: Sequence[Key]) -> None:
        with self._database.transaction:
            for key in keys:
                failure = self._database.failures.get(key)
                if failure is not None:
                    self._database.failures.put(key, replace(failure, text_hash=RELEASED))
                self._database.announce(key, 0, int(Lane.FRESH))

    def _counts(self, failure: Failure) -> bool:
        return failure.space == self._space.name and failure.text_hash != RELEASED
