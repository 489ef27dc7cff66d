"""The outbox in memory: two lanes in the order of their ULIDs."""

from __future__ import annotations

from collections.abc import Sequence

from embed_star.models import Key, Lane, OutboxId, Space, is_usable
from embed_star.store.memory.database import Announcement, MemoryDatabase
from embed_star.store.tables.outbox import Entry, ulid_ms


class MemoryOutbox:
    """`store.tables.outbox.Outbox`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def page(self, lane: Lane, after: str, rows: int) -> list[Entry]:
        with self._database.transaction:
            found = self._database.outbox.after([int(lane), after], rows)
        return [_entry(key, record) for key, record in found if key[0] == lane]

    def fail_unusable(self, ids: Sequence[OutboxId], space: Space) -> None:
        with self._database.transaction:
            for one in ids:
                record = self._database.outbox.get(list(one))
                if record is not None and record.repo is not None:
                    self._note(record.repo, space)
                self._database.outbox.delete(list(one))

    def announce(self, keys: Sequence[tuple[Key, int]], lane: Lane) -> None:
        with self._database.transaction:
            for key, size in keys:
                self._database.announce(key, size, int(lane))

    def present(self, ids: Sequence[OutboxId]) -> set[OutboxId]:
        with self._database.transaction:
            return {one for one in ids if self._database.outbox.get(list(one)) is not None}

    def counts(self) -> dict[Lane, int]:
        with self._database.transaction:
            lanes = [key[0] for key, _ in self._database.outbox]
        return {lane: lanes.count(lane) for lane in Lane}

    def is_longer(self, lane: Lane, rows: int) -> bool:
        return len(self.page(lane, "", rows + 1)) > rows

    def oldest_at_ms(self, lane: Lane) -> int | None:
        first = self.page(lane, "", 1)
        return ulid_ms(first[0].id[1]) if first else None

    def _note(self, repo: Key, space: Space) -> None:
        if repo in self._database.repos:
            self._database.note_failure(repo, space.name, "key_type", "")
        else:
            self._database.failures.delete(repo)


def _entry(key: Sequence[object], record: Announcement) -> Entry:
    lane, ulid = key
    usable = record.repo is not None and is_usable(record.repo)
    return Entry((int(str(lane)), str(ulid)), record.repo if usable else None, record.size)
