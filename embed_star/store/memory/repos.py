"""The user's table `repo` in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from embed_star.models import Key, Space, is_usable
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.event import RepoEvent
from embed_star.store.tables.names import flat_name
from embed_star.store.tables.passages import README, has_passages
from embed_star.store.tables.repos import RepoPage, RepoState


class MemoryRepos:
    """`store.tables.repos.Repos`, and the user's deletions."""

    def __init__(self, database: MemoryDatabase, space: Space, text_fields: Sequence[str]) -> None:
        self._database = database
        self._space = space
        self._text = RepoEvent(text_fields)
        self._has_passages = has_passages(text_fields)

    def load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        with self._database.transaction:
            return [self._state(key, token) for key in keys]

    def page(self, after: Key | None, rows: int) -> RepoPage:
        with self._database.transaction:
            keys = [key for key, _ in self._database.repos.after(after, rows)]
            states = [self._state(key, "") for key in keys if is_usable(key)]
            unnoted = [key for key in keys if not is_usable(key) and not self._is_noted(key)]
            return RepoPage(keys, states, unnoted, more=len(keys) == rows)

    def upsert(self, rows: Sequence[tuple[Key, Mapping[str, Any]]], *, lane: int) -> int:
        with self._database.transaction:
            for key, fields in rows:
                self._database.merge_repo(key, fields, lane)
        return len(rows)

    def delete(self, key: Key) -> None:
        """What a user does; the event announces it."""
        self._database.delete_repo(key)

    def _state(self, key: Key, token: str) -> RepoState:
        repo = self._database.repos.get(key)
        lock = self._database.locks.get(key)
        stored = self._database.vectors[self._space.table].get(key)
        failure = self._database.failures.get(key)
        mine = lock is not None and lock.token == token
        here = failure is not None and failure.space == self._space.name
        return RepoState(
            key,
            values=None if repo is None else self._text.values(repo),
            lock_left_s=lock.expires - self._database.clock() if lock and mine else None,
            stored_hash=stored.text_hash if stored else None,
            failed_hash=failure.text_hash if failure and here else None,
            recorded=failure is not None,
            name="" if repo is None else flat_name(repo.get("full_name")),
            readme_hash=self._readme_hash(repo),
            stored_passages=stored.passages if stored else 0,
        )

    def _readme_hash(self, repo: Mapping[str, Any] | None) -> str:
        readme = repo.get(README) if repo and self._has_passages else None
        if not isinstance(readme, str) or not readme:
            return ""
        return hashlib.sha256(readme.encode()).hexdigest()

    def _is_noted(self, key: Key) -> bool:
        failure = self._database.failures.get(key)
        return failure is not None and (failure.space, failure.reason) == (
            self._space.name,
            "key_type",
        )
