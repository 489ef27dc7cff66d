"""Memory twins of claims and their locks, for tests and for work without servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from embed_star.claims.claims import Claims
from embed_star.events import Emit, ignore_event
from embed_star.models import Key, key_text
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.locks import MemoryLockTable


class MemoryLocks:
    """Locks as in `RedisLocks`, over an injected clock. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._locks: dict[str, tuple[str, float]] = {}

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with self._one_at_a_time:
            return [self._take(key_text(key), token, ttl_s) for key in keys]

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with self._one_at_a_time:
            held = [self._holder(key_text(key)) == token for key in keys]
            for key, mine in zip(keys, held, strict=True):
                if mine:
                    self._locks[key_text(key)] = (token, self._clock() + ttl_s)
            return held

    def release(self, keys: Sequence[Key], token: str) -> None:
        with self._one_at_a_time:
            for name in map(key_text, keys):
                if self._holder(name) == token:
                    del self._locks[name]

    def _take(self, name: str, token: str, ttl_s: float) -> bool:
        if self._is_live(name):
            return False
        self._locks[name] = (token, self._clock() + ttl_s)
        return True

    def _is_live(self, name: str) -> bool:
        return name in self._locks and self._clock() < self._locks[name][1]

    def _holder(self, name: str) -> str | None:
        """The token that holds the lock; None once it has expired."""
        return self._locks[name][0] if self._is_live(name) else None


class MemoryClaims(Claims):
    """Claims over locks in this process.

    Several of them contend for rows when they share `redis` and `records`. A bulk write in
    memory is fenced by the same `records`.
    """

    def __init__(
        self,
        redis: MemoryLocks | None = None,
        records: MemoryLockTable | None = None,
        *,
        ttl_s: float = 45.0,
        renew_before_s: float = 36.0,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = ignore_event,
    ) -> None:
        super().__init__(
            redis or MemoryLocks(clock),
            records or MemoryLockTable(MemoryDatabase(clock)),
            ttl_s=ttl_s,
            renew_before_s=renew_before_s,
            clock=clock,
            emit=emit,
        )
