"""The lock table in SurrealDB: the second layer of locks, which decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from embed_star.errors import AlreadyExists, StoreAuthError, WriteConflict
from embed_star.models import Key, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.connection import NO_RIGHT
from embed_star.store.client.pool import Database
from embed_star.values import RecordID

TABLE = "embedding_lock"
_ROUNDS = 3


class LockTable:
    """Locks whose ids are the keys of repos: of two claimers of a row, one loses.

    Only the database's clock decides what has expired. A `claims.claims.LockRecords`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        """Lock the free ones among `keys` for `token`; whether each was won.

        One query when all are free, which is usual. Raises StoreAuthError when the user may
        only read.
        """
        won: set[str] = set()
        free = list(keys)
        for _ in range(_ROUNDS):
            try:
                self._create(free, token, ttl_s)
            except (AlreadyExists, WriteConflict):
                free = self._free_among(keys)
                continue
            won = {key_text(key) for key in free}
            break
        return [key_text(key) in won for key in keys]

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        """Let the locks of `token` last `ttl_s` from now; whether each belongs to it."""
        (held,) = self._database.query(
            "UPDATE $ids SET expires = time::now() + $ttl WHERE token = $owner RETURN VALUE id",
            ids=_ids(keys),
            owner=token,
            ttl=timedelta(seconds=ttl_s),
        )
        return _among(keys, held)

    def release(self, keys: Sequence[Key], token: str) -> None:
        """Delete the locks of `token`, and no others. A second call changes nothing."""
        self._database.query(
            "DELETE $ids WHERE token = $owner RETURN NONE", ids=_ids(keys), owner=token
        )

    def held(self, keys: Sequence[Key], token: str) -> list[bool]:
        """Whether `token` holds each lock, expired or not."""
        (held,) = self._database.query(
            "SELECT VALUE id FROM $ids WHERE token = $owner", ids=_ids(keys), owner=token
        )
        return _among(keys, held)

    def live(self, keys: Sequence[Key]) -> list[bool]:
        """Whether anybody's lock on each is still running."""
        (held,) = self._database.query(
            "SELECT VALUE id FROM $ids WHERE expires >= time::now()", ids=_ids(keys)
        )
        return _among(keys, held)

    def sweep(self, older_than_s: float) -> int:
        """Delete locks that expired more than `older_than_s` ago; how many.

        An expired lock can be taken anyway, so this removes only what nobody took.
        """
        (gone,) = self._database.query(
            f"DELETE {TABLE} WHERE expires < time::now() - $age RETURN BEFORE",
            age=timedelta(seconds=older_than_s),
        )
        return len(gone)

    def _create(self, keys: Sequence[Key], token: str, ttl_s: float) -> None:
        if keys:
            ids = _ids(keys)
            _, written = self._database.query(
                "CREATE $ids SET token = $owner, expires = time::now() + $ttl RETURN NONE; "
                "RETURN $one.token",
                ids=ids,
                one=ids[0],
                owner=token,
                ttl=timedelta(seconds=ttl_s),
            )
            if written is None:  # and no error: the user has lost the right to write
                raise StoreAuthError(NO_RIGHT)

    def _free_among(self, keys: Sequence[Key]) -> list[Key]:
        _, taken = self._database.query(
            "DELETE $ids WHERE expires < time::now() RETURN NONE; SELECT VALUE id FROM $ids",
            ids=_ids(keys),
        )
        busy = {key_text(record.id) for record in taken}
        return [key for key in keys if key_text(key) not in busy]


def _ids(keys: Sequence[Key]) -> list[RecordID]:
    return [record(TABLE, key) for key in keys]


def _among(keys: Sequence[Key], records: Sequence[RecordID]) -> list[bool]:
    present = {key_text(record.id) for record in records}
    return [key_text(key) in present for key in keys]
