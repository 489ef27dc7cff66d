"""A space's vector table: the fenced bulk write, and the walk over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from embed_star.models import Key, OutboxId, Space
from embed_star.store.client.codec import VectorBytes, encode_key, record
from embed_star.store.client.connection import FENCE, RETIRED
from embed_star.store.client.pool import Database
from embed_star.store.tables.keyset import records_after
from embed_star.store.tables.names import flat_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX = "embedding_hnsw"


@dataclass(frozen=True, slots=True)
class PassageWrite:
    """The vector of one passage to store, and the hash of its text."""

    vector: NDArray[np.float32]
    text_hash: str


@dataclass(frozen=True, slots=True)
class VectorWrite:
    """One vector to store, shape (dimensions,), float32."""

    key: Key
    vector: NDArray[np.float32]
    text_hash: str
    name: str = ""
    """The flat name of the repo; see `names.flat_name`."""
    cut: bool = False
    """Whether only the beginning of the text was embedded."""
    own_hash: str = ""
    """For a row with a README: the hash of its own text. `text_hash` is then that of both."""
    passages: Sequence[PassageWrite] = ()
    left_out: int = 0
    """How many passages have no vector, since they cannot be embedded."""


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
    stale_passages: Sequence[tuple[Key, int]] = ()
    """Keys whose stored passages are deleted, and how many each may have."""
    failures: Sequence[FailureWrite] = ()
    healed: Sequence[Key] = ()
    """Keys whose failure is deleted."""
    outbox: Sequence[OutboxId] = ()
    """The outbox records to delete."""
    locks: Sequence[Key] = field(default=())
    """Every row that the write changes: the run must hold its lock."""


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

    def refresh_names(self, keys: Sequence[Key]) -> int:
        """Give those of `keys` (vectors) whose name is missing or old the repo's; how many."""


class SurrealVectors:
    """In SurrealDB."""

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
        if write.stale_passages:
            run.append("DELETE $stale_passages RETURN NONE")
        if write.vectors:
            run.append(f"INSERT INTO {self._table} $rows RETURN NONE")
        if any(one.passages for one in write.vectors):
            run.append(f"INSERT INTO {self._space.passages_table} $passages RETURN NONE")
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

    def refresh_names(self, keys: Sequence[Key]) -> int:
        (found,) = self._database.query(
            "SELECT id, name, repo.full_name AS full_name FROM $vectors WHERE repo.id != NONE",
            vectors=[record(self._table, key) for key in keys],
        )
        old = [
            {"id": one["id"], "name": name}
            for one in found
            if one.get("name") != (name := flat_name(one.get("full_name")))
        ]
        if old:
            self._database.query(
                "FOR $one IN $old { UPDATE $one.id SET name = $one.name RETURN NONE }", old=old
            )
        return len(old)

    def has_index(self) -> bool:
        """Whether the HNSW index exists, built or not."""
        return has_index(self._database, self._table)

    def build_index(self) -> bool:
        """Begin to build the HNSW index in the background; False when it exists."""
        return build_index(self._database, self._table, self._space.dimensions)

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
                    "name": one.name,
                    "run": write.run_id,
                    "embedded_at": now,
                    **({"cut": True} if one.cut else {}),
                    **({"own_hash": one.own_hash} if one.own_hash else {}),
                    **({"passages": len(one.passages)} if one.passages else {}),
                    **({"left_out": one.left_out} if one.left_out else {}),
                }
                for one in write.vectors
            ],
            "stale_passages": [
                record(self._space.passages_table, [key, n])
                for key, most in write.stale_passages
                for n in range(most)
            ],
            "passages": [
                {
                    **passage_record(self._space, one.key, n, passage.text_hash),
                    "vector": VectorBytes(passage.vector),
                    "run": write.run_id,
                }
                for one in write.vectors
                for n, passage in enumerate(one.passages)
            ],
        }


def passage_record(space: Space, key: Key, n: int, text_hash: str) -> dict[str, Any]:
    """The record of passage `n` of the row `key`, without its vector and run."""
    return {
        "id": record(space.passages_table, [key, n]),
        "repo": record("repo", key),
        "main": record(space.table, key),
        "text_hash": text_hash,
    }


def has_index(database: Database, table: str) -> bool:
    """Whether the HNSW index over the vectors of `table` exists, built or not."""
    (info,) = database.query(f"INFO FOR TABLE {table}")
    return INDEX in info["indexes"]


def build_index(database: Database, table: str, dimensions: int) -> bool:
    """Begin to build the HNSW index over the vectors of `table`; False when it exists."""
    if has_index(database, table):
        return False
    database.query(
        f"DEFINE INDEX IF NOT EXISTS {INDEX} ON {table} FIELDS vector "
        f"HNSW DIMENSION {int(dimensions)} DIST COSINE TYPE F32 CONCURRENTLY"
    )
    return True
