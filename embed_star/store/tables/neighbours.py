"""The vectors that are nearest to one: by the HNSW index where there is one, else exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key
from embed_star.store.client.codec import VectorBytes, record
from embed_star.store.client.pool import Database
from embed_star.store.tables.filters import Filters, conditions, of_repo, where_all
from embed_star.store.tables.vectors import INDEX, has_index
from embed_star.values import RecordID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_EF = 200
"""Candidates that a search of the index keeps: more is slower, and finds more. Measured in
docs/search-scale.md."""

_STEPS = (200, 1000)
"""With filters, so many of the nearest are read from the index, and then more. Each costs the
database some 0.1 ms, since it decodes the vector."""

_ENOUGH_FOR_MORE = 0.5
"""A step that would find fewer than this share of what is wanted is left out."""

FEW = 20_000
"""So many that pass are compared one by one, without the others."""

_SAMPLE = 500

_Scored = tuple[Key, float]
"""A key, and its cosine similarity."""


class Neighbours:
    """Over one vector table."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table

    def find(self, query: NDArray[np.float32], k: int, filters: Filters) -> list[_Scored]:
        """The keys nearest to `query`, best first.

        More than `k`, where so many pass, since a repo may be deleted and its vector still be
        there.
        """
        passing, bound = conditions(filters)
        wanted = 2 * int(k)
        if not self.has_index():
            return self._exact(self._table, query, wanted, passing, bound)
        if not passing:
            return self._indexed(query, wanted, wanted, [], {})
        # Last: most rows are out by then, and each of the conditions fetches the repo again.
        return self._filtered(query, int(k), [*passing, "repo.id != NONE"], bound)

    def has_index(self) -> bool:
        """Whether the HNSW index exists and is built."""
        if not has_index(self._database, self._table):
            return False
        (state,) = self._database.query(f"INFO FOR INDEX {INDEX} ON {self._table}")
        return bool(state.get("building", {}).get("status", "ready") == "ready")

    def exact_s(self) -> float | None:
        """Seconds that a search takes without the index, by a sample; None: the index is built."""
        import numpy as np  # here, as most processes load no vector

        if self.has_index():
            return None
        (found,) = self._database.query(f"SELECT count() FROM {self._table} GROUP ALL")
        rows = int(found[0]["count"]) if found else 0
        (vectors,) = self._database.query(f"SELECT vector FROM {self._table} LIMIT 1")
        if not vectors:
            return 0.0
        query = np.asarray(vectors[0]["vector"], dtype=np.float32)
        sample = f"(SELECT id, vector FROM {self._table} LIMIT {_SAMPLE})"
        taken_s = []
        for _ in range(3):
            begun = time.perf_counter()
            self._exact(sample, query, 1, [], {})
            taken_s.append(time.perf_counter() - begun)
        return min(taken_s) * rows / min(rows, _SAMPLE)

    def _filtered(
        self,
        query: NDArray[np.float32],
        k: int,
        passing: Sequence[str],
        bound: Mapping[str, Any],
    ) -> list[_Scored]:
        """More and more of the nearest until `k` pass; else all that pass, exactly.

        The index could look at the conditions itself (`WHERE vector <|k,ef|> $query AND …`).
        Then it decodes far more rows, and after deletions some that pass are missing:
        https://github.com/surrealdb/surrealdb/issues/7423.
        """
        before = 0
        found: list[_Scored] = []
        for candidates in sorted({max(step, 2 * k) for step in _STEPS}):
            if before and len(found) * candidates < _ENOUGH_FOR_MORE * k * before:
                break
            found = self._indexed(query, candidates, k, passing, bound)
            if len(found) >= k:
                return found
            before = candidates
        vectors = self._vectors_of(passing, bound)
        if vectors is None:
            return self._exact(self._table, query, k, passing, bound)
        return self._exact("$vectors", query, k, [], {"vectors": vectors}) if vectors else []

    def _vectors_of(
        self, passing: Sequence[str], bound: Mapping[str, Any]
    ) -> list[RecordID] | None:
        """The vectors of the repos that pass; None if they are too many, as `_keys_of`."""
        keys = self._keys_of(passing, bound)
        return None if keys is None else [record(self._table, key) for key in keys]

    def _keys_of(self, passing: Sequence[str], bound: Mapping[str, Any]) -> list[Key] | None:
        """The keys of the repos that pass, found without a look at a vector.

        None if they are more than `FEW`, or a row cannot be read.
        """
        try:
            (ids,) = self._database.query(
                f"SELECT VALUE id FROM repo{where_all(of_repo(passing))} LIMIT {FEW + 1}", **bound
            )
        except StoreAuthError:
            raise
        except StoreError:
            return None
        return None if len(ids) > FEW else [one.id for one in ids]

    def _indexed(
        self,
        query: NDArray[np.float32],
        candidates: int,
        wanted: int,
        passing: Sequence[str],
        bound: Mapping[str, Any],
    ) -> list[_Scored]:
        """The `wanted` best of the `candidates` nearest that meet the conditions."""
        source = (
            f"(SELECT id, repo, vector FROM {self._table} "
            f"WHERE vector <|{candidates},{max(_EF, candidates)}|> $query)"
        )
        return self._exact(source, query, wanted, passing, bound)

    def _exact(
        self,
        source: str,
        query: NDArray[np.float32],
        wanted: int,
        passing: Sequence[str],
        bound: Mapping[str, Any],
    ) -> list[_Scored]:
        """The `wanted` best of the vectors in `source` that meet the conditions."""
        # Ids first: to fetch every repo for it would double what a row costs.
        (found,) = self._database.query(
            "SELECT id, vector::similarity::cosine(vector, $query) AS score "
            f"FROM {source}{where_all(passing)} ORDER BY score DESC LIMIT $wanted",
            query=VectorBytes(query),
            wanted=wanted,
            **bound,
        )
        return [(one["id"].id, float(one["score"])) for one in found]
