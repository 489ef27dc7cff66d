"""The lock table in memory, which fences the bulk writes in memory."""

from __future__ import annotations

from collections.abc import Sequence

from embed_star.models import Key
from embed_star.store.memory.database import Lock, MemoryDatabase


class MemoryLockTable:
    """As `store.tables.locks.LockTable`: a lock stays its token's until another takes it."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with self._database.transaction:
            return [self._take(key, token, ttl_s) for key in keys]

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with self._database.transaction:
            held = self._database.holds(keys, token)
            for key, mine in zip(keys, held, strict=True):
                if mine:
                    self._put(key, token, ttl_s)
            return held

    def release(self, keys: Sequence[Key], token: str) -> None:
        with self._database.transaction:
            for key, mine in zip(keys, self._database.holds(keys, token), strict=True):
                if mine:
                    self._database.locks.delete(key)

    def held(self, keys: Sequence[Key], token: str) -> list[bool]:
        with self._database.transaction:
            return self._database.holds(keys, token)

    def live(self, keys: Sequence[Key]) -> list[bool]:
        with self._database.transaction:
            now = self._database.clock()
            locks = [self._database.locks.get(key) for key in keys]
            return [lock is not None and now <= lock.expires for lock in locks]

    def sweep(self, older_than_s: float) -> int:
        with self._database.transaction:
            before = self._database.clock() - older_than_s
            dead = [key for key, lock in self._database.locks if lock.expires < before]
            for key in dead:
                self._database.locks.delete(key)
            return len(dead)

    def _take(self, key: Key, token: str, ttl_s: float) -> bool:
        lock = self._database.locks.get(key)
        if lock is not None and self._database.clock() <= lock.expires:
            return False
        self._put(key, token, ttl_s)
        return True

    def _put(self, key: Key, token: str, ttl_s: float) -> None:
        self._database.locks.put(key, Lock(token, self._database.clock() + ttl_s))
