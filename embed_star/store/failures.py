"""Rows that could not be embedded: the records of `embedding_failure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from embed_star.models import Key, Space
from embed_star.store.codec import record
from embed_star.store.pool import Database
from embed_star.store.ranges import records_after


@dataclass(frozen=True, slots=True)
class Failure:
    """One quarantined row. It is left alone until its text or the space changes."""

    key: Key
    reason: str
    text_hash: str
    attempts: int
    at: datetime


class Failures:
    """The failures of one space."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._space = space

    def by_reason(self) -> dict[str, int]:
        """How many rows failed, by reason."""
        (rows,) = self._database.query(
            "SELECT reason, count() AS rows FROM embedding_failure WHERE space = $space "
            "GROUP BY reason",
            space=self._space.name,
        )
        return {str(row["reason"]): int(row["rows"]) for row in rows}

    def page(self, after: Key | None, rows: int) -> list[Failure]:
        """The next `rows` failures in key order; `after` None begins at the first."""
        source, bound = records_after(self._database, "embedding_failure", after)
        (found,) = self._database.query(
            f"SELECT * FROM {source} WHERE space = $space LIMIT $rows",
            space=self._space.name,
            rows=rows,
            **bound,
        )
        return [
            Failure(
                one["id"].id,
                str(one["reason"]),
                str(one["text_hash"]),
                int(one["attempts"]),
                one["at"],
            )
            for one in found
        ]

    def release(self, keys: Sequence[Key]) -> None:
        """Forget the failures of `keys`, and announce the rows as pending again."""
        self._database.query(
            "BEGIN; FOR $key IN $failures { DELETE $key RETURN NONE }; "
            "FOR $repo IN $repos { CREATE embedding_outbox CONTENT "
            "{ id: [0, rand::ulid()], repo: $repo, size: 0 } RETURN NONE }; COMMIT;",
            failures=[record("embedding_failure", key) for key in keys],
            repos=[record("repo", key) for key in keys],
        )
