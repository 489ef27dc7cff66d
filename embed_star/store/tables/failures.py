"""Failed rows: the records of `embedding_failure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embed_star.models import Key, Space
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after

TABLE = "embedding_failure"

RELEASED = "released"
"""Replaces the text hash, so that the row is tried again: no text has this hash. The record
keeps the count of attempts until the row is embedded."""

_FAILED = "space = $space AND text_hash != $released"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed row. It is not tried again until its text or the space changes."""

    key: Key
    reason: str
    text_hash: str
    attempts: int
    """How often it failed, with this text or another."""
    at: datetime
    """When it failed last."""
    space: str


class Failures:
    """The failures of one space."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._space = space

    def by_reason(self) -> dict[str, int]:
        """The number of failed rows by reason."""
        (rows,) = self._database.query(
            f"SELECT reason, count() AS rows FROM {TABLE} WHERE {_FAILED} GROUP BY reason",
            **self._known(),
        )
        return {str(row["reason"]): int(row["rows"]) for row in rows}

    def page(self, after: Key | None, rows: int, reason: str | None = None) -> list[Failure]:
        """The next `rows` failures in key order; `after` None begins at the first."""
        source, bound = records_after(self._database, TABLE, after)
        filters = _FAILED if reason is None else f"{_FAILED} AND reason = $reason"
        (found,) = self._database.query(
            f"SELECT * FROM {source} WHERE {filters} LIMIT $rows",
            rows=rows,
            reason=reason,
            **self._known(),
            **bound,
        )
        return [_failure(one) for one in found]

    def find(self, keys: Sequence[Key]) -> list[Failure]:
        """The failures of `keys`, in no order. A key without one is left out."""
        (found,) = self._database.query(
            f"SELECT * FROM $ids WHERE {_FAILED}",
            ids=[record(TABLE, key) for key in keys],
            **self._known(),
        )
        return [_failure(one) for one in found]

    def release(self, keys: Sequence[Key]) -> None:
        """Announce `keys` as pending again. Their count of attempts stays."""
        self._database.query(
            f"BEGIN; FOR $key IN $failures {{ UPDATE $key SET text_hash = '{RELEASED}' "
            "RETURN NONE }; "
            "FOR $repo IN $repos { CREATE embedding_outbox CONTENT "
            "{ id: [0, rand::ulid()], repo: $repo, size: 0 } RETURN NONE }; COMMIT;",
            failures=[record(TABLE, key) for key in keys],
            repos=[record("repo", key) for key in keys],
        )

    def _known(self) -> dict[str, str]:
        return {"space": self._space.name, "released": RELEASED}


def _failure(one: Mapping[str, Any]) -> Failure:
    return Failure(
        one["id"].id,
        str(one["reason"]),
        str(one["text_hash"]),
        int(one["attempts"]),
        one["at"],
        str(one["space"]),
    )
