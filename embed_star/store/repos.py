"""The user's table `repo`: read for embedding, walked for reconciling, written by import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, Space, is_usable, key_text
from embed_star.store.codec import record
from embed_star.store.pool import Database
from embed_star.store.ranges import records_after
from embed_star.store.spaces import quoted_path


@dataclass(frozen=True, slots=True)
class RepoState:
    """One repo and all that decides what to do with it, read in one round trip."""

    key: Key
    values: tuple[Any, ...] | None
    """Values of the text fields, in their order; None: the repo does not exist."""
    lock_left_s: float | None = None
    """Seconds until the lock of the asking run ends, None: it holds none. Negative when it
    is over and nobody has taken the row since."""
    stored_hash: str | None = None
    """Text hash of the stored vector."""
    failed_hash: str | None = None
    """Text hash of the recorded failure in this space."""
    recorded: bool = False
    """Whether a failure is recorded, of whatever text and space."""
    unreadable: bool = False
    """The database holds the row and cannot give it out."""

    @property
    def settled_hash(self) -> str | None:
        """The text hash for which nothing is left to do."""
        return self.failed_hash or self.stored_hash


class RepoPage(NamedTuple):
    """A page of the walk over `repo`."""

    keys: list[Key]
    states: list[RepoState]
    """Of the keys that are usable (see `models.is_usable`)."""


# (Durations are never negative: SurrealDB fails the subtraction for a lock that is over.)
_LOCKS = "SELECT id, expires, time::now() AS now FROM $locks WHERE token = $owner"
_VECTORS = "SELECT id, text_hash FROM $vectors"
_FAILURES = "SELECT id, text_hash, space = $space AS here FROM $failures"


class Repos:
    """Reads of `repo` for one space, and the import's writes."""

    def __init__(self, database: Database, space: Space, text_fields: Sequence[str]) -> None:
        self._database = database
        self._space = space
        # Field paths come from the settings, which allow nothing but names.
        self._values = "[" + ", ".join(map(quoted_path, text_fields)) + "]"

    def load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        """The state of each of `keys`, in order; locks are those that carry `token`."""
        try:
            return self._load(keys, token)
        except StoreAuthError:
            raise
        except StoreError:
            # One row that cannot be read fails the whole statement; see `unreadable`.
            if len(keys) == 1:
                return [self._load_unreadable(keys[0], token)]
            return [state for key in keys for state in self.load([key], token)]

    def _load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        locks, vectors, failures, repos = self._database.query(
            f"{_LOCKS}; {_VECTORS}; {_FAILURES};"
            # Last: a change of text between the reads is then seen, not missed.
            f"SELECT id, {self._values} AS f FROM $repos",
            repos=[record("repo", key) for key in keys],
            **self._around(keys, token),
        )
        return _join(keys, repos, vectors, failures, _left_s(locks))

    def _load_unreadable(self, key: Key, token: str) -> RepoState:
        """What is known of a row that the database holds and cannot give out.

        Engine 2.3.10 stores a string with a NUL character, and then fails every query
        that would read it.
        """
        locks, vectors, failures = self._database.query(
            f"{_LOCKS}; {_VECTORS}; {_FAILURES}", **self._around([key], token)
        )
        (state,) = _join([key], [], vectors, failures, _left_s(locks))
        return replace(state, unreadable=True)

    def _around(self, keys: Sequence[Key], token: str) -> dict[str, Any]:
        return {
            "locks": [record("embedding_lock", key) for key in keys],
            "vectors": [record(self._space.table, key) for key in keys],
            "failures": [record("embedding_failure", key) for key in keys],
            "owner": token,
            "space": self._space.name,
        }

    def page(self, after: Key | None, rows: int) -> RepoPage:
        """The next `rows` repos in key order; `after` None begins at the first."""
        source, bound = records_after(self._database, "repo", after)
        (found,) = self._database.query(
            f"SELECT VALUE id FROM {source} LIMIT $rows", rows=rows, **bound
        )
        keys = [one.id for one in found]
        usable = [key for key in keys if is_usable(key)]
        return RepoPage(keys, self.load(usable, token="") if usable else [])

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


def _left_s(locks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key_text(one["id"].id): (one["expires"] - one["now"]).total_seconds() for one in locks}


def _join(
    keys: Sequence[Key],
    repos: Sequence[Mapping[str, Any]],
    vectors: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    lock_left_s: Mapping[str, float],
) -> list[RepoState]:
    values = {key_text(one["id"].id): tuple(one["f"]) for one in repos}
    stored = {key_text(one["id"].id): one["text_hash"] for one in vectors}
    failed = {key_text(one["id"].id): one["text_hash"] for one in failures if one["here"]}
    recorded = {key_text(one["id"].id) for one in failures}
    return [
        RepoState(
            key, values.get(k), lock_left_s.get(k), stored.get(k), failed.get(k), k in recorded
        )
        for key, k in ((key, key_text(key)) for key in keys)
    ]
