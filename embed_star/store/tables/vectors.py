"""A space's vector table: the fenced bulk write, and search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, OutboxId, Space, key_text
from embed_star.store.client.codec import VectorBytes, encode_key, record
from embed_star.store.client.connection import FENCE, RETIRED
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after
from embed_star.values import RecordID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX = "embedding_hnsw"
_EF = 100
"""Candidates that a search of the index keeps; more is slower and finds more."""


@dataclass(frozen=True, slots=True)
class VectorWrite:
    """One vector to store, shape (dimensions,), float32."""

    key: Key
    vector: NDArray[np.float32]
    text_hash: str
    cut: bool = False
    """Whether only the beginning of the text was embedded."""


@dataclass(frozen=True, slots=True)
class FailureWrite:
    """One failed row to store, and the reason."""

    key: Key
    text_hash: str
    reason: str


@dataclass(frozen=True, slots=True)
class BulkWrite:
    """All changes of one run: one transaction writes them all, or none."""

    run_id: str
    vectors: Sequence[VectorWrite] = ()
    stale: Sequence[Key] = ()
    """Keys whose stored vector is deleted: `vectors` replaces it, or the repo is deleted."""
    failures: Sequence[FailureWrite] = ()
    healed: Sequence[Key] = ()
    """Keys whose failure is deleted."""
    outbox: Sequence[OutboxId] = ()
    """The outbox records to delete."""
    locks: Sequence[Key] = field(default=())
    """Every row that the write changes: the run must hold its lock."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search: the repo's fields, and its cosine similarity in [-1, 1]."""

    repo: Mapping[str, Any]
    score: float


class Vectors(Protocol):
    """The vector table of one space."""

    def apply(self, write: BulkWrite) -> None:
        """Do all of `write` in one transaction, and release the run's locks.

        Raises FenceLost, and changes nothing, when the run does not hold one of the locks:
        this stops late and repeated writes. Raises SpaceRetired, and changes nothing, when
        another space is active: the outbox records are for that one.
        A plain INSERT after a DELETE is twice as fast as UPSERT or ON DUPLICATE KEY.
        """

    def count(self) -> int:
        """The number of vectors. Reads only keys, but all of them."""

    def keys_page(self, after: Key | None, rows: int) -> list[Key]:
        """The next `rows` keys in order; `after` None begins at the first."""

    def without_repo(self, keys: Sequence[Key]) -> list[Key]:
        """Those of `keys` (vectors) whose repo does not exist."""

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        language: str | None = None,
        min_stars: int | None = None,
    ) -> list[Hit]:
        """The `k` repos nearest to `query` (shape (dimensions,)) by cosine, best first.

        The search is exact, except without a filter on a table with the HNSW index. The
        index ignores filters, so a filtered search would find too few with it.
        """


class SurrealVectors:
    """In SurrealDB, with an index for searches without filters."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._space = space
        self._table = space.table  # [a-z0-9_], as every Space sees to

    def apply(self, write: BulkWrite) -> None:
        run = [
            "BEGIN",
            f"IF (SELECT VALUE state FROM $space) != ['active'] {{ THROW '{RETIRED}' }}",
            "LET $held = (SELECT VALUE id FROM $locks WHERE token = $owner)",
            f"IF array::len($held) != $count {{ THROW '{FENCE}' }}",
        ]
        if write.stale:
            run.append("DELETE $stale RETURN NONE")
        if write.vectors:
            run.append(f"INSERT INTO {self._table} $rows RETURN NONE")
        if write.healed:
            run.append("DELETE $healed RETURN NONE")
        if write.failures:
            run.append(
                "FOR $f IN $failures { UPSERT $f.id SET space = $f.space, reason = $f.reason, "
                "text_hash = $f.text_hash, attempts = (attempts ?? 0) + 1, at = time::now() "
                "RETURN NONE }"
            )
        run += ["DELETE $outbox RETURN NONE", "DELETE $locks RETURN NONE", "COMMIT"]
        self._database.query(";".join(run), **self._bindings(write))

    def count(self) -> int:
        (rows,) = self._database.query(f"SELECT count() FROM {self._table} GROUP ALL")
        return int(rows[0]["count"]) if rows else 0

    def keys_page(self, after: Key | None, rows: int) -> list[Key]:
        source, bound = records_after(self._database, self._table, after)
        (found,) = self._database.query(
            f"SELECT VALUE id FROM {source} LIMIT $rows", rows=rows, **bound
        )
        return [record.id for record in found]

    def without_repo(self, keys: Sequence[Key]) -> list[Key]:
        (found,) = self._database.query(
            "SELECT VALUE id FROM $repos", repos=[record("repo", key) for key in keys]
        )
        there = {encode_key(one.id) for one in found}
        return [key for key in keys if encode_key(key) not in there]

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        language: str | None = None,
        min_stars: int | None = None,
    ) -> list[Hit]:
        filters = []
        if language is not None:
            filters.append("string::lowercase(<string>(repo.language ?? '')) = $language")
        if min_stars is not None:
            filters.append("repo.stargazers_count >= $min_stars")
        wanted = 2 * int(k)  # a repo may be deleted and its vector still be there
        if not filters and self.has_index():
            filters.append(f"vector <|{wanted},{max(_EF, wanted)}|> $query")
        where = f" WHERE {' AND '.join(filters)}" if filters else ""
        # Ids first: to fetch every repo for it would double what a row costs.
        (nearest,) = self._database.query(
            "SELECT id, vector::similarity::cosine(vector, $query) AS score "
            f"FROM {self._table}{where} ORDER BY score DESC LIMIT $wanted",
            query=VectorBytes(query),
            wanted=wanted,
            language=(language or "").lower(),
            min_stars=min_stars,
        )
        return self._with_repos(nearest)[:k]

    def _with_repos(self, nearest: Sequence[Mapping[str, Any]]) -> list[Hit]:
        repos = self._repos([record("repo", one["id"].id) for one in nearest])
        by_key = {key_text(repo["id"].id): repo for repo in repos}
        scores = [(key_text(one["id"].id), float(one["score"])) for one in nearest]
        return [Hit(by_key[key], score) for key, score in scores if key in by_key]

    def _repos(self, ids: Sequence[RecordID]) -> list[Mapping[str, Any]]:
        """The existing records of `ids`; only the id of one that the database cannot return."""
        try:
            (found,) = self._database.query("SELECT * FROM $repos", repos=ids)
        except StoreAuthError:
            raise
        except StoreError:
            if len(ids) == 1:
                (found,) = self._database.query("SELECT id FROM $repos", repos=ids)
            else:
                half = len(ids) // 2
                found = self._repos(ids[:half]) + self._repos(ids[half:])
        return list(found)

    def has_index(self) -> bool:
        """Whether the HNSW index exists and is built."""
        (info,) = self._database.query(f"INFO FOR TABLE {self._table}")
        if INDEX not in info["indexes"]:
            return False
        (state,) = self._database.query(f"INFO FOR INDEX {INDEX} ON {self._table}")
        return bool(state.get("building", {}).get("status", "ready") == "ready")

    def build_index(self) -> bool:
        """Begin to build the HNSW index in the background; False when it exists."""
        (info,) = self._database.query(f"INFO FOR TABLE {self._table}")
        if INDEX in info["indexes"]:
            return False
        self._database.query(
            f"DEFINE INDEX IF NOT EXISTS {INDEX} ON {self._table} FIELDS vector "
            f"HNSW DIMENSION {int(self._space.dimensions)} DIST COSINE TYPE F32 CONCURRENTLY"
        )
        return True

    def _bindings(self, write: BulkWrite) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {
            "owner": write.run_id,
            "space": record("embedding_space", self._space.name),
            "count": len(write.locks),
            "locks": [record("embedding_lock", key) for key in write.locks],
            "outbox": [record("embedding_outbox", list(one)) for one in write.outbox],
            "stale": [record(self._table, key) for key in write.stale],
            "healed": [record("embedding_failure", key) for key in write.healed],
            "failures": [
                {
                    "id": record("embedding_failure", one.key),
                    "space": self._space.name,
                    "reason": one.reason,
                    "text_hash": one.text_hash,
                }
                for one in write.failures
            ],
            "rows": [
                {
                    "id": record(self._table, one.key),
                    "repo": record("repo", one.key),
                    "vector": VectorBytes(one.vector),
                    "text_hash": one.text_hash,
                    "run": write.run_id,
                    "embedded_at": now,
                    **({"cut": True} if one.cut else {}),
                }
                for one in write.vectors
            ],
        }
