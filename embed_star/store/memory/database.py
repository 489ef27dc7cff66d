"""All that SurrealDB holds for embed_star, within one process."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed_star.models import Key, OutboxId
from embed_star.store.memory.event import RepoEvent
from embed_star.store.memory.table import MemoryTable
from embed_star.store.tables import failures
from embed_star.store.tables.checkpoints import Progress
from embed_star.store.tables.failures import Failure
from embed_star.store.tables.outbox import ulid_of_ms
from embed_star.store.tables.spaces import Identity, KnownSpace


@dataclass(frozen=True, slots=True)
class Announcement:
    """A record of the outbox."""

    repo: Key | None
    """The repo's key, usable or not; None where the record names no repo."""
    size: int


@dataclass(frozen=True, slots=True)
class Lock:
    """A record of the lock table."""

    token: str
    expires: float
    """By the database's clock."""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A record of a vector table."""

    vector: NDArray[np.float32]
    text_hash: str
    run: str
    embedded_at: datetime
    cut: bool
    own_hash: str = ""
    passages: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A record of a table of passages. Its key is `[key of the row, number]`."""

    vector: NDArray[np.float32]
    text_hash: str


@dataclass(slots=True)
class SpaceRecord:
    """A record of `embedding_space`."""

    known: KnownSpace
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A record of `embedding_cursor`: where a reconcile stands."""

    progress: Progress
    finished: datetime | None = None
    begun: datetime | None = None


@dataclass
class MemoryDatabase:
    """The tables. Other threads see all changes of a `transaction` at once.

    Code that writes here checks everything before it changes anything: there is no rollback.
    """

    clock: Callable[[], float] = time.time
    """Seconds since 1970: the database's time, by which locks end."""
    transaction: threading.RLock = field(default_factory=threading.RLock)
    repos: MemoryTable[dict[str, Any]] = field(default_factory=MemoryTable)
    outbox: MemoryTable[Announcement] = field(default_factory=MemoryTable)
    locks: MemoryTable[Lock] = field(default_factory=MemoryTable)
    failures: MemoryTable[Failure] = field(default_factory=MemoryTable)
    vectors: dict[str, MemoryTable[StoredVector]] = field(default_factory=dict)
    """By the table's name."""
    passages: dict[str, MemoryTable[StoredPassage]] = field(default_factory=dict)
    """By the name of the vector table."""
    spaces: dict[str, SpaceRecord] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    """By the space's name."""
    timestamps: dict[str, datetime] = field(default_factory=dict)
    event: RepoEvent | None = None
    """The event that announces changes of repos; None: no event, as in `surreal import`."""
    _ulids: itertools.count[int] = field(default_factory=itertools.count)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def table(self, name: str) -> MemoryTable[Any]:
        """A table of ours whose ids are the keys of repos, by its name."""
        return self.failures if name == failures.TABLE else self.vectors[name]

    def merge_repo(self, key: Key, fields: Mapping[str, Any], lane: int) -> None:
        """Write `fields` of a repo, as `UPSERT … MERGE` does; others are left as they are."""
        before = self.repos.get(key)
        after = _merged(before or {}, fields)
        self.repos.put(key, after)
        self._fire(key, before, after, lane)

    def delete_repo(self, key: Key) -> None:
        """Delete a repo, as a user does. A missing repo is not announced."""
        with self.transaction:
            before = self.repos.get(key)
            self.repos.delete(key)
            self._fire(key, before, None, 0)

    def announce(self, key: Key, size: int, lane: int) -> OutboxId:
        """Add a record to the outbox, behind all that are in the lane."""
        # Those of a millisecond are in the order in which they came; in SurrealDB in none.
        ulid = f"{ulid_of_ms(int(self.clock() * 1000))}{next(self._ulids):016d}"
        self.outbox.put([lane, ulid], Announcement(key, size))
        return (lane, ulid)

    def note_failure(self, key: Key, space: str, reason: str, text_hash: str) -> None:
        """Record that the row failed once more."""
        before = self.failures.get(key)
        attempts = 1 if before is None else before.attempts + 1
        self.failures.put(key, Failure(key, reason, text_hash, attempts, self.now(), space))

    def holds(self, keys: Sequence[Key], token: str) -> list[bool]:
        """Which locks carry `token`, expired or not."""
        locks = [self.locks.get(key) for key in keys]
        return [lock is not None and lock.token == token for lock in locks]

    def _fire(
        self, key: Key, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, lane: int
    ) -> None:
        if self.event is not None and self.event.announces(before, after):
            self.announce(key, self.event.size(after), 1 if lane == 1 else 0)


def _merged(before: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in fields.items():
        there = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merged(there if isinstance(there, Mapping) else {}, value)
        else:
            merged[name] = deepcopy(value)
    return merged
