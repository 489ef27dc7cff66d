"""The user's table `repo`: read by embedding and the reconcile, written by the import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import structlog

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, Space, is_usable, key_text
from embed_star.store.client.codec import encode_key, record
from embed_star.store.client.pool import Database
from embed_star.store.client.quoting import quoted_path
from embed_star.store.tables.keyset import record_alone, records_after
from embed_star.store.tables.names import flat_name
from embed_star.store.tables.passages import has_passages
from embed_star.values import printed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RepoState:
    """One repo with its lock, vector and failure, read in one round trip."""

    key: Key
    values: tuple[Any, ...] | None
    """The values of the text fields, in their order; None: the repo does not exist."""
    lock_left_s: float | None = None
    """Seconds until the lock of the asking run expires; None: it holds none. Negative when
    it has expired and nobody has taken the row since."""
    stored_hash: str | None = None
    """Text hash of the stored vector."""
    failed_hash: str | None = None
    """Text hash of the failure in this space."""
    recorded: bool = False
    """Whether the row has a failure, of any text and space."""
    unreadable: bool = False
    """The database holds the row but cannot return it."""
    name: str = ""
    """The flat name; see `names.flat_name`."""
    readme_hash: str = ""
    """SHA-256 of the README, in hex; empty: the row has none, or it is part of the text."""
    stored_passages: int = 0
    """How many of its passages are stored."""

    @property
    def settled_hash(self) -> str | None:
        """The text hash that needs no more work."""
        return self.failed_hash or self.stored_hash


class RepoPage(NamedTuple):
    """A page of the walk over `repo`."""

    keys: list[Key]
    states: list[RepoState]
    """The states of the usable keys (see `models.is_usable`)."""
    unnoted: list[Key]
    """The unusable keys that are not saved as failed yet."""
    more: bool
    """Whether rows may follow."""


_MAX_SKIPPED = 100
"""Most successive rows with keys that the database cannot return, before a walk gives up."""


# (Durations are never negative: SurrealDB fails the subtraction for a lock that is over.)
_LOCKS = "SELECT id, expires, time::now() AS now FROM $locks WHERE token = $owner"
_VECTORS = "SELECT id, text_hash, passages FROM $vectors"
_FAILURES = "SELECT id, text_hash, space = $space AS here FROM $failures"
# Not the README itself: a reconcile would read all of them. Only a text is one.
_README_HASH = (
    "(IF readme AND readme = <string>readme { crypto::sha256(<string>readme) } ELSE { '' })"
)


class Repos(Protocol):
    """Reads of `repo` for one space, and the import's writes."""

    def load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        """The state of each of `keys`, in order, with the locks of `token`."""

    def page(self, after: Key | None, rows: int) -> RepoPage:
        """The next `rows` repos in key order; `after` None begins at the first.

        Returns fewer when the database cannot read one of their keys. Raises StoreError
        when it cannot read past them.
        """

    def upsert(self, rows: Sequence[tuple[Key, Mapping[str, Any]]], *, lane: int) -> int:
        """Create or merge `rows` in one transaction; how many.

        A merge keeps the fields that a row does not name. The event on `repo` announces the
        changes in the outbox's `lane`. Raises StoreError when the database refuses a row; 2.x
        may have kept the others then.
        """


class SurrealRepos:
    """In SurrealDB, which may hold rows that it cannot return."""

    def __init__(self, database: Database, space: Space, text_fields: Sequence[str]) -> None:
        self._database = database
        self._space = space
        self._paths = [quoted_path(path) for path in text_fields]
        self._values = "[" + ", ".join(self._paths) + "]"
        self._readme_hash = _README_HASH if has_passages(text_fields) else "''"

    def count(self) -> int:
        """The number of repos. Reads only keys, but all of them."""
        (found,) = self._database.query("SELECT count() FROM repo GROUP ALL")
        return int(found[0]["count"]) if found else 0

    def load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        try:
            return self._load(keys, token)
        except StoreAuthError:
            raise
        except StoreError:
            # One row that cannot be read fails the whole statement.
            if len(keys) == 1:
                return [self._load_by_field(keys[0], token)]
            half = len(keys) // 2
            return self.load(keys[:half], token) + self.load(keys[half:], token)

    def _load(self, keys: Sequence[Key], token: str) -> list[RepoState]:
        locks, vectors, failures, repos = self._database.query(
            f"{_LOCKS}; {_VECTORS}; {_FAILURES};"
            # Last: a change of text between the reads is then seen, not missed.
            f"SELECT id, full_name AS n, {self._readme_hash} AS r, {self._values} AS f FROM $repos",
            repos=[record("repo", key) for key in keys],
            **self._around(keys, token),
        )
        return _join(keys, repos, vectors, failures, _left_s(locks))

    def _load_by_field(self, key: Key, token: str) -> RepoState:
        """The state of a row that the database cannot return whole, read field by field.

        A value without CBOR, such as a regex, is read as its text. The row is `unreadable`
        when a field cannot be read so either: engine 2.3.10 stores a string with a NUL
        character, and then fails every query that reads it.
        """
        locks, vectors, failures = self._database.query(
            f"{_LOCKS}; {_VECTORS}; {_FAILURES}", **self._around([key], token)
        )
        try:
            readme = self._field(key, self._readme_hash)
            fields = [self._field(key, path) for path in self._paths]
        except StoreAuthError:
            raise
        except StoreError:
            (state,) = _join([key], [], vectors, failures, _left_s(locks))
            return replace(state, unreadable=True)
        there = (
            [{"id": record("repo", key), "r": readme[0], "f": [one[0] for one in fields]}]
            if readme and all(fields)
            else []
        )
        (state,) = _join([key], there, vectors, failures, _left_s(locks))
        return state

    def _field(self, key: Key, path: str) -> list[Any]:
        """One value in a list; an empty list when the row does not exist."""
        repo = record("repo", key)
        try:
            (found,) = self._database.query(f"SELECT VALUE {path} FROM $repo", repo=repo)
        except StoreAuthError:
            raise
        except StoreError:
            (found,) = self._database.query(f"SELECT VALUE <string>{path} FROM $repo", repo=repo)
        return list(found)

    def _around(self, keys: Sequence[Key], token: str) -> dict[str, Any]:
        return {
            "locks": [record("embedding_lock", key) for key in keys],
            "vectors": [record(self._space.table, key) for key in keys],
            "failures": [record("embedding_failure", key) for key in keys],
            "owner": token,
            "space": self._space.name,
        }

    def page(self, after: Key | None, rows: int) -> RepoPage:
        source, bound = records_after(self._database, "repo", after)
        limit = rows
        while True:
            try:
                (found,) = self._database.query(
                    f"SELECT VALUE id FROM {source} LIMIT $rows", rows=limit, **bound
                )
            except StoreAuthError:
                raise
            except StoreError as error:
                if limit == 1:
                    return self._page_beyond(after, error)
                limit //= 2
            else:
                return self._page([one.id for one in found], more=len(found) == limit)

    def _page_beyond(self, after: Key | None, error: StoreError) -> RepoPage:
        """A page with only the next row that has a readable key."""
        source, bound = records_after(self._database, "repo", after)
        for skipped in range(1, _MAX_SKIPPED + 1):
            try:
                (found,) = self._database.query(
                    f"SELECT VALUE id FROM {source} LIMIT 1 START $skipped",
                    skipped=skipped,
                    **bound,
                )
            except StoreAuthError:
                raise
            except StoreError:
                continue
            log.error("keys_not_readable", rows=skipped, reason=str(error))
            return self._page([one.id for one in found], more=bool(found))
        raise StoreError(
            f"the table repo cannot be walked {_beyond(after)} ({error}): delete, by its id, the "
            "row whose key SurrealDB itself cannot read, such as a date beyond the year 9999"
        )

    def _page(self, keys: list[Key], *, more: bool) -> RepoPage:
        usable = [key for key in keys if is_usable(key)]
        others = [key for key in keys if not is_usable(key)] if len(usable) < len(keys) else []
        states = self.load(usable, token="") if usable else []
        return RepoPage(keys, states, self._unnoted(others) if others else [], more)

    def _unnoted(self, keys: Sequence[Key]) -> list[Key]:
        """Those of `keys` that are not saved as failed for their type, in this space."""
        failures = [record("embedding_failure", key) for key in keys]
        noted = self._noted("$failures", {"failures": failures})
        left = [key for key in keys if encode_key(key) not in noted]
        return [key for key in left if not self._is_noted(key)]

    def _is_noted(self, key: Key) -> bool:
        source, bound = record_alone(self._database, "embedding_failure", key)
        return bool(self._noted(source, bound))

    def _noted(self, source: str, bound: Mapping[str, Any]) -> set[bytes]:
        (found,) = self._database.query(
            f"SELECT VALUE id FROM {source} WHERE space = $space AND reason = 'key_type'",
            space=self._space.name,
            **bound,
        )
        return {encode_key(one.id) for one in found}

    def upsert(self, rows: Sequence[tuple[Key, Mapping[str, Any]]], *, lane: int) -> int:
        ids = [record("repo", key) for key, _ in rows]
        self._database.query(
            "BEGIN; FOR $row IN $rows { UPSERT $row.id MERGE $row.fields RETURN NONE }; COMMIT;",
            rows=[{"id": i, "fields": dict(row)} for i, (_, row) in zip(ids, rows, strict=True)],
            embed_star_lane=lane,
        )
        if self._database.version < (3,):
            # It answers a new row whose event fails on a type with a success, and drops the row
            # when the transaction ends.
            (kept,) = self._database.query("RETURN array::len(SELECT VALUE id FROM $ids)", ids=ids)
            if kept < len(ids):
                raise StoreError("an event on repo fails for it, and SurrealDB 2 does not say why")
        return len(rows)


def _beyond(after: Key | None) -> str:
    return "from its beginning" if after is None else f"after repo:{printed(after)}"


def _left_s(locks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key_text(one["id"].id): (one["expires"] - one["now"]).total_seconds() for one in locks}


def _join(
    keys: Sequence[Key],
    repos: Sequence[Mapping[str, Any]],
    vectors: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    lock_left_s: Mapping[str, float],
) -> list[RepoState]:
    repo_of, vector_of, failure_of = map(_by_key, (repos, vectors, failures))
    found = []
    for key, k in zip(keys, map(key_text, keys), strict=True):
        repo, vector, failure = repo_of.get(k), vector_of.get(k), failure_of.get(k)
        state = RepoState(
            key,
            values=None if repo is None else tuple(repo["f"]),
            lock_left_s=lock_left_s.get(k),
            stored_hash=None if vector is None else vector["text_hash"],
            failed_hash=failure["text_hash"] if failure and failure["here"] else None,
            recorded=failure is not None,
            name="" if repo is None else flat_name(repo.get("n")),
            readme_hash="" if repo is None else repo["r"],
            stored_passages=0 if vector is None else vector.get("passages") or 0,
        )
        found.append(state)
    return found


def _by_key(records: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {key_text(one["id"].id): one for one in records}
