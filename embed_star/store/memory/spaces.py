"""Embedding spaces in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embed_star.errors import ConfigError
from embed_star.models import Space
from embed_star.store.memory.database import MemoryDatabase, SpaceRecord
from embed_star.store.memory.event import RepoEvent
from embed_star.store.memory.table import MemoryTable
from embed_star.store.tables.spaces import Identity, KnownSpace


class MemorySpaces:
    """As `store.tables.spaces.Spaces`, without what concerns a server."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def ensure(self, space: Space, text_fields: Sequence[str]) -> bool:
        with self._database.transaction:
            if self.is_active(space) and self._database.event is not None:
                return False
            for one in self._database.spaces.values():
                one.known = replace(one.known, active=False)
            self._add(KnownSpace(space, list(text_fields), active=True))
            self._database.event = RepoEvent(text_fields)
            self._database.cursors.pop(space.name, None)
            return True

    def add_retired(self, space: Space, text_fields: Sequence[str]) -> None:
        with self._database.transaction:
            if space.name not in self._database.spaces:
                self._add(KnownSpace(space, list(text_fields), active=False))

    def known(self) -> list[KnownSpace]:
        with self._database.transaction:
            return [self._database.spaces[name].known for name in sorted(self._database.spaces)]

    def retired(self) -> list[Space]:
        with self._database.transaction:
            spaces = [one.space for one in self.known() if not one.active]
            return [one for one in spaces if one.table in self._database.vectors]

    def with_passages(self) -> list[Space]:
        with self._database.transaction:
            spaces = [one.space for one in self.known()]
            return [one for one in spaces if one.table in self._database.passages]

    def count(self, space: Space) -> int:
        with self._database.transaction:
            return len(self._database.vectors.get(space.table, ()))

    def drop(self, name: str) -> None:
        with self._database.transaction:
            found = self._database.spaces.get(name)
            if found is None:
                raise ConfigError(f"there is no space {name}")
            if found.known.active:
                raise ConfigError(f"{name} is the active space")
            del self._database.spaces[name]
            self._database.vectors.pop(found.known.space.table, None)
            self._database.passages.pop(found.known.space.table, None)
            self._database.cursors.pop(name, None)
            for key, failure in self._database.failures:
                if failure.space == name:
                    self._database.failures.delete(key)

    def state(self, space: Space) -> str | None:
        with self._database.transaction:
            found = self._database.spaces.get(space.name)
        if found is None:
            return None
        return "active" if found.known.active else "retired"

    def is_active(self, space: Space) -> bool:
        return self.state(space) == "active"

    def identity(self, space: Space) -> Identity | None:
        with self._database.transaction:
            found = self._database.spaces.get(space.name)
            return found.identity if found else None

    def record_identity(self, space: Space, identity: Identity) -> None:
        with self._database.transaction:
            found = self._database.spaces.get(space.name)
            if found and (identity.probe is not None or found.identity is None):
                found.identity = identity

    def _add(self, known: KnownSpace) -> None:
        identity = self.identity(known.space)
        self._database.spaces[known.space.name] = SpaceRecord(known, identity)
        self._database.vectors.setdefault(known.space.table, MemoryTable())
        self._database.passages.setdefault(known.space.table, MemoryTable())
