"""One index after the other over the same table: each built, searched, and written under."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.scale.table import FILTERS, Many
from bench.stack import quantile
from bench.usage import cpu_s, resident_bytes
from embed_star.models import Key
from embed_star.search import NO_FILTERS, Filters
from embed_star.services.store import Store
from embed_star.store.client.codec import VectorBytes, record
from embed_star.store.memory.retrieval import passes
from embed_star.store.tables.filters import conditions
from embed_star.store.tables.spaces import EVENT, event_sql
from embed_star.store.tables.vectors import INDEX

K = 10
EFFORTS = (20, 40, 100, 200, 400)
_EXACT_QUERIES = 3
_FILTERED_QUERIES = 60
_WITHIN_QUERIES = 10
_WRITTEN_ROWS = 2_000
_WRITE_BATCH = 100
_TURNS = 7


@dataclass(frozen=True, slots=True)
class Searched:
    """Some searches for 10 rows each."""

    name: str
    p50_ms: float
    p99_ms: float
    recall: float
    """Share of the true nearest that was found."""
    cpu_ms: float
    """Of the server, a search: it says the same on a busy machine."""
    passing: int = 0
    """How many rows meet the filter."""


@dataclass(slots=True)
class Indexed:
    """One index, or none."""

    definition: str
    build_s: float = 0.0
    cpu_s: float = 0.0
    """Of the server, until it is built."""
    memory_mb: float = 0.0
    """That the server grew by."""
    rows_s: float = 0.0
    """Vectors written a second, once it is there."""
    by_effort: list[Searched] = field(default_factory=list)
    """Of the bare query, by the number of candidates that the index keeps."""
    within: Searched | None = None
    """Of the query with a filter beside `<|…|>`, which the index looks at itself."""
    by_filter: list[Searched] = field(default_factory=list)
    """Of the product's own search."""


class Measurer:
    """Over a store whose table holds the first rows of `many`; the rest is to be written."""

    def __init__(self, store: Store, many: Many, rows: int, pid: int) -> None:
        self._store = store
        self._database = store.database
        self._table = store.space.table
        self._many = many
        self._rows = rows
        self._pid = pid

    def without(self) -> Indexed:
        """Exact searches."""
        found = Indexed("none", rows_s=self._write_rate())
        queries = self._many.queries[:_EXACT_QUERIES]
        for name in ("none", "go", "stars ≥ 50,000"):
            found.by_filter.append(self._filtered(name, queries))
        return found

    def under(self, definition: str) -> Indexed:
        """The index of this definition; it is removed in the end."""
        database = self._database
        found, before_mb, before_s = Indexed(definition), self._memory_mb(), self._cpu_s()
        begun = time.perf_counter()
        database.query(
            f"DEFINE INDEX {INDEX} ON {self._table} FIELDS vector {definition} CONCURRENTLY"
        )
        self._await_built()
        found.build_s = time.perf_counter() - begun
        found.cpu_s = self._cpu_s() - before_s
        found.memory_mb = self._memory_mb() - before_mb
        every = self._many.queries
        truth = self._many.truth(np.arange(len(self._many.rows)) < self._rows, K)
        for effort in EFFORTS:
            found.by_effort.append(self._timed(str(effort), every, truth, self._bare(effort)))
        found.within = self._within()
        for name in FILTERS:
            few = every if name == "none" else every[:_FILTERED_QUERIES]
            found.by_filter.append(self._filtered(name, few))
        found.rows_s = self._write_rate()
        database.query(f"REMOVE INDEX {INDEX} ON {self._table}")
        return found

    def _within(self) -> Searched:
        """What the product does not do: see `store.tables.neighbours`."""
        filters = FILTERS["go"]
        passing, bound = conditions(filters)
        sql = (
            "SELECT id, vector::similarity::cosine(vector, $query) AS score FROM "
            f"{self._table} WHERE vector <|{K},{EFFORTS[-2]}|> $query AND {passing[0]} "
            "ORDER BY score DESC"
        )

        def search(query: NDArray[np.float32]) -> list[Key]:
            (found,) = self._database.query(sql, query=VectorBytes(query), **bound)
            return [one["id"].id for one in found]

        there = self._passing(filters)
        queries = self._many.queries[:_WITHIN_QUERIES]
        truth = self._many.truth(there, K)
        return self._timed("go, within the index", queries, truth, search, int(there.sum()))

    def _passing(self, filters: Filters) -> NDArray[np.bool_]:
        passing = np.array([passes(row, filters) for row in self._many.rows])
        return passing & (np.arange(len(passing)) < self._rows)

    def users_writes(self, batch: int) -> float:
        """Rate of `UPDATE repo SET stargazers_count` with the event, over that without it.

        `batch` is the number of rows in a statement.
        """
        ratios = []
        for turn in range(_TURNS):
            event = event_sql(self._store.text_fields)
            rates = {}
            for there in (True, False) if turn % 2 else (False, True):
                self._database.query(
                    event if there else f"REMOVE EVENT IF EXISTS {EVENT} ON TABLE repo"
                )
                rates[there] = self._update_rate(turn, batch)
            ratios.append(rates[True] / rates[False])
        self._database.query(event)
        return statistics.median(ratios)

    def _update_rate(self, turn: int, batch: int) -> float:
        begun = time.perf_counter()
        for start in range(0, _WRITTEN_ROWS, batch):
            ids = [record("repo", self._many.key(start + n)) for n in range(batch)]
            self._database.query(
                "UPDATE $ids SET stargazers_count += $more RETURN NONE", ids=ids, more=turn % 2
            )
        return _WRITTEN_ROWS / (time.perf_counter() - begun)

    def _filtered(self, name: str, queries: NDArray[np.float32]) -> Searched:
        filters = FILTERS[name]
        passing = self._passing(filters)
        truth = self._many.truth(passing, K)

        def search(query: NDArray[np.float32]) -> list[Key]:
            hits = self._store.retrieval.nearest(query, K, filters)
            return [hit.repo["id"].id for hit in hits]

        label = "no filter" if filters == NO_FILTERS else name
        return self._timed(label, queries, truth, search, int(passing.sum()))

    def _timed(
        self,
        name: str,
        queries: NDArray[np.float32],
        truth: Sequence[Sequence[Key]],
        search: Callable[[NDArray[np.float32]], list[Key]],
        passing: int = 0,
    ) -> Searched:
        taken_ms, shares = [], []
        search(queries[0])  # what the first one reads from the disk is not measured
        before_s = self._cpu_s()
        for query, wanted in zip(queries, truth, strict=False):
            begun = time.perf_counter()
            found = search(query)
            taken_ms.append((time.perf_counter() - begun) * 1000)
            if wanted:
                shares.append(len(set(found) & set(wanted)) / len(wanted))
        cpu_ms = (self._cpu_s() - before_s) / len(queries) * 1000
        recall = statistics.fmean(shares) if shares else 1.0
        p50_ms, p99_ms = statistics.median(taken_ms), quantile(taken_ms, 0.99)
        return Searched(name, p50_ms, p99_ms, recall, cpu_ms, passing)

    def _bare(self, effort: int) -> Callable[[NDArray[np.float32]], list[Key]]:
        """The query without what the product does around it."""
        sql = (
            "SELECT id, vector::similarity::cosine(vector, $query) AS score "
            f"FROM {self._table} WHERE vector <|{K},{effort}|> $query ORDER BY score DESC"
        )

        def search(query: NDArray[np.float32]) -> list[Key]:
            (found,) = self._database.query(sql, query=VectorBytes(query))
            return [one["id"].id for one in found]

        return search

    def _write_rate(self) -> float:
        """Rows/s of vectors that are written and deleted again."""
        end = min(len(self._many.rows), self._rows + _WRITTEN_ROWS)
        begun = time.perf_counter()
        for start in range(self._rows, end, _WRITE_BATCH):
            self._many.write_vectors(
                self._database, self._table, range(start, min(end, start + _WRITE_BATCH))
            )
        rate = (end - self._rows) / (time.perf_counter() - begun)
        ids = [record(self._table, self._many.key(place)) for place in range(self._rows, end)]
        self._database.query("DELETE $ids RETURN NONE", ids=ids)
        return rate

    def _await_built(self) -> None:
        while True:
            (state,) = self._database.query(f"INFO FOR INDEX {INDEX} ON {self._table}")
            building: dict[str, Any] = state["building"]
            if building["status"] == "ready" and not building.get("compacting"):
                return
            if building["status"] == "error":
                raise RuntimeError(f"the index was not built: {building}")
            time.sleep(0.2)

    def _memory_mb(self) -> float:
        return resident_bytes(self._pid) / 2**20

    def _cpu_s(self) -> float:
        return cpu_s(self._pid)
