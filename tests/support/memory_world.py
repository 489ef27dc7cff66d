"""A world whose database, Redis and provider are in this process.

It is asked as `World` is. Worlds made over one `MemoryBackends` are processes of one fleet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from embed_star.models import Key, key_text
from embed_star.store.memory.database import Announcement, StoredVector
from embed_star.store.tables.failures import Failure
from embed_star.values import RecordID
from tests.support.in_process_provider import InProcessProvider
from tests.support.memory_services import MemoryBackends, MemoryServices, MemorySettings
from tests.support.world import World


class MemoryWorld(World):
    """A process of a fleet in memory."""

    services: MemoryServices

    def __init__(self, backends: MemoryBackends | None = None, **changes: Any) -> None:
        """`changes` are settings."""
        self.backends = backends or MemoryBackends()
        self.clock = self.backends.clock
        self.settings = MemorySettings(**changes)
        self.provider = InProcessProvider(self.settings.dimensions)
        self.services = MemoryServices(self.settings, self.backends, self.provider)
        self.store = self.services.store
        self._database = self.backends.database

    def write(self, key: Key, **fields: Any) -> None:
        self.store.repos.upsert([(key, fields)], lane=0)

    def write_many(self, count: int) -> list[int]:
        rows = [(n, {"full_name": f"owner/name{n}"}) for n in range(count)]
        self.store.repos.upsert(rows, lane=0)
        return list(range(count))

    def delete(self, key: Key) -> None:
        self.store.repos.delete(key)

    def lose_cache(self) -> None:
        self.services.cache._local.clear()
        self.backends.vectors.clear()

    def begin_shutdown(self) -> None:
        """What a signal does to this process, without the thread that watches for it."""
        self.services.shutdown._begun.set()

    @contextmanager
    def unannounced(self) -> Iterator[None]:
        event, self._database.event = self._database.event, None
        yield
        self._database.event = event

    def put(self, lane: int, ulid: str, key: Key = 1, size: int | None = 5) -> None:
        self._database.outbox.put([lane, ulid], Announcement(key, size or 0))

    def put_vector(self, key: Key) -> None:
        vector = np.ones(self.settings.dimensions, dtype=np.float32)
        stored = StoredVector(vector, "x", "", self._database.now(), cut=False)
        self._database.vectors[self.table].put(key, stored)

    def put_failure(self, key: Key, **fields: Any) -> None:
        usual = {"reason": "", "text_hash": "", "attempts": 1, "at": self._database.now()}
        self._database.failures.put(key, Failure(key, **{**usual, **fields}))

    def repos(self) -> list[dict[str, Any]]:
        return [{**fields, "id": RecordID("repo", key)} for key, fields in self._database.repos]

    def vectors(self) -> dict[str, dict[str, Any]]:
        return {
            key_text(key): {
                "id": RecordID(self.table, key),
                "repo": RecordID("repo", key),
                "vector": stored.vector.tolist(),
                "text_hash": stored.text_hash,
                "run": stored.run,
                "embedded_at": stored.embedded_at,
                **({"cut": True} if stored.cut else {}),
                **({"own_hash": stored.own_hash} if stored.own_hash else {}),
                **({"passages": stored.passages} if stored.passages else {}),
                **({"left_out": stored.left_out} if stored.left_out else {}),
            }
            for key, stored in self._database.vectors[self.table]
        }

    def failures(self) -> dict[str, dict[str, Any]]:
        return {
            key_text(key): {
                "id": RecordID("embedding_failure", key),
                "space": one.space,
                "reason": one.reason,
                "text_hash": one.text_hash,
                "attempts": one.attempts,
                "at": one.at,
            }
            for key, one in self._database.failures
        }

    def locks(self) -> dict[str, str]:
        return {key_text(key): lock.token for key, lock in self._database.locks}

    def close(self) -> None:
        """Nothing to close."""
