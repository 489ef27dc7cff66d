"""The reconcile cursor of one space, and times by name, in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

from embed_star.models import Space
from embed_star.store.memory.database import Cursor, MemoryDatabase
from embed_star.store.tables.checkpoints import Phase, Progress


class MemoryCheckpoints:
    """`store.tables.checkpoints.Checkpoints`."""

    def __init__(self, database: MemoryDatabase, space: Space) -> None:
        self._database = database
        self._space = space

    def load(self) -> Progress | None:
        cursor = self._cursor()
        return cursor.progress if cursor else None

    def save(self, progress: Progress) -> None:
        with self._database.transaction:
            done = progress.phase is Phase.DONE
            finished = self._database.now() if done else self.finished_at()
            cursor = self._cursor()
            begun = cursor.begun if cursor and progress != Progress() else self._database.now()
            self._database.cursors[self._space.name] = Cursor(progress, finished, begun)

    def unfinished_age(self) -> timedelta | None:
        cursor = self._cursor()
        if cursor is None or cursor.begun is None:
            return None
        return self._database.now() - cursor.begun

    def finished_at(self) -> datetime | None:
        cursor = self._cursor()
        return cursor.finished if cursor else None

    def forget(self) -> None:
        with self._database.transaction:
            self._database.cursors.pop(self._space.name, None)

    def finished_age(self) -> timedelta | None:
        finished = self.finished_at()
        return None if finished is None else self._database.now() - finished

    def _cursor(self) -> Cursor | None:
        with self._database.transaction:
            return self._database.cursors.get(self._space.name)


class MemoryTimestamps:
    """As `store.tables.checkpoints.Timestamps`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def set(self, name: str) -> None:
        with self._database.transaction:
            self._database.timestamps[name] = self._database.now()

    def at(self, name: str) -> datetime | None:
        with self._database.transaction:
            return self._database.timestamps.get(name)
