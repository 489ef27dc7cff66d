"""The user's table `repo`: read for embedding, walked for reconciling, written by import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embed_star.models import Key, Space, key_text
from embed_star.store.codec import keys_after, record
from embed_star.store.pool import Database


@dataclass(frozen=True, slots=True)
class RepoState:
    """One repo and all that decides what to do with it, read in one round trip."""

    key: Key
    values: tuple[Any, ...] | None
    """Values of the text fields, in their order; None: the repo does not exist."""
    lock_left_s: float | None = None
    """Seconds until the lock of the asking run ends, None: it holds none."""
    stored_hash: str | None = None
    """Text hash of the stored vector."""
    failed_hash: str | None = None
    """Text hash of the recorded failure in this space."""

    @property
    def settled_hash(self) -> str | None:
        """The text hash for which nothing is left to do."""
        return self.failed_hash or self.stored_hash


class Repos:
    """Reads of `repo` for one space, and the import's writes."""

    def __init__(self, database: Database, space: Space, text_fields: Sequence[str]) -> None:
        self._database = database
        self._space = space
        # Field paths come from the settings, which allow nothing but names.
        self._values = "[" + ", ".join(text_fields) + "]"

    def load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        """The state of each of `keys`, in order; locks are those that carry `token`."""
        locks, vectors, failures, repos = self._database.query(
            "SELECT id, expires - time::now() AS left FROM $locks WHERE token = $owner;"
            "SELECT id, text_hash FROM $vectors;"
            "SELECT id, text_hash FROM $failures WHERE space = $space;"
            # Last: a change of text between the reads is then seen, not missed.
            f"SELECT id, {self._values} AS f FROM $repos",
            locks=[record("embedding_lock", key) for key in keys],
            vectors=[record(self._space.table, key) for key in keys],
            failures=[record("embedding_failure", key) for key in keys],
            repos=[record("repo", key) for key in keys],
            owner=token,
            space=self._space.name,
        )
        left = {key_text(one["id"].id): one["left"].total_seconds() for one in locks}
        return _join(keys, repos, vectors, failures, left)

    def page(self, after: Key | None, rows: int) -> list[RepoState]:
        """The next `rows` repos in key order; `after` None begins at the first."""
        source = "repo" if after is None else "$source"
        (repos,) = self._database.query(
            f"SELECT id, {self._values} AS f FROM {source} LIMIT $rows",
            source=keys_after("repo", after),
            rows=rows,
        )
        keys = [one["id"].id for one in repos]
        if not keys:
            return []
        vectors, failures = self._database.query(
            "SELECT id, text_hash FROM $vectors;"
            "SELECT id, text_hash FROM $failures WHERE space = $space",
            vectors=[record(self._space.table, key) for key in keys],
            failures=[record("embedding_failure", key) for key in keys],
            space=self._space.name,
        )
        return _join(keys, repos, vectors, failures, {})

    def upsert(self, rows: Sequence[tuple[Key, Mapping[str, Any]]], *, lane: int) -> int:
        """Create or merge `rows`, all in one transaction; how many.

        Fields that a row does not have are left as they are. What changed goes to the
        outbox's `lane`, by the event on `repo`.
        """
        self._database.query(
            "BEGIN; FOR $row IN $rows { UPSERT $row.id MERGE $row.fields RETURN NONE }; COMMIT;",
            rows=[{"id": record("repo", key), "fields": dict(fields)} for key, fields in rows],
            embed_star_lane=lane,
        )
        return len(rows)


def _join(
    keys: Sequence[Key],
    repos: Sequence[Mapping[str, Any]],
    vectors: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    lock_left_s: Mapping[str, float],
) -> list[RepoState]:
    values = {key_text(one["id"].id): tuple(one["f"]) for one in repos}
    stored = {key_text(one["id"].id): one["text_hash"] for one in vectors}
    failed = {key_text(one["id"].id): one["text_hash"] for one in failures}
    return [
        RepoState(key, values.get(k), lock_left_s.get(k), stored.get(k), failed.get(k))
        for key, k in ((key, key_text(key)) for key in keys)
    ]
