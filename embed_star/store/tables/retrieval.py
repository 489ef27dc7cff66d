"""What searches read: vectors, names, and whole repos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import VectorBytes, record
from embed_star.store.client.pool import Database
from embed_star.store.tables.filters import NO_FILTERS, Filters, conditions, where_all
from embed_star.store.tables.keyset import records_after
from embed_star.store.tables.names import flat_name
from embed_star.store.tables.neighbours import Neighbours
from embed_star.store.tables.passage_neighbours import PassageNeighbours, merged
from embed_star.values import RecordID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMED_ROWS = 2000
"""Most rows that one look-up by name reads before the filters."""

_BEYOND = "\U0010ffff"
"""Sorts after every name that goes on."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A repo's fields, and its cosine similarity to the query in [-1, 1]."""

    repo: Mapping[str, Any]
    score: float
    passage: str = ""
    """The hash of the passage of its README that is that near; empty: its own text is."""


@dataclass(frozen=True, slots=True)
class Named:
    """A repo that was found by its name."""

    key: Key
    full_name: str
    score: float
    """Its cosine similarity to the query in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A vector, shape (dimensions,), float32, and what was embedded."""

    key: Key
    vector: NDArray[np.float32]
    text_hash: str
    """Of the row's own text, without a README."""
    embedded_at: datetime | None = None
    cut: bool = False
    passages: int = 0
    """How many passages of its README are stored."""


class Retrieval(Protocol):
    """Reads of one space. None of them shows a repo that is deleted or has no vector, except
    `repos` and `repo`, which need none."""

    def nearest(
        self,
        query: NDArray[np.float32],
        k: int,
        filters: Filters = NO_FILTERS,
        *,
        passages: bool = False,
    ) -> list[Neighbour]:
        """The `k` repos nearest to `query` (shape (dimensions,)) by cosine, best first.

        With `passages`, a repo is as near as the nearest of its vector and its passages'.
        It is exact, except on a table with the HNSW index: there some of the nearest may be
        missing. It gives `k` wherever so many pass `filters`, whose values are those of now.
        """

    def named(
        self,
        names: Sequence[str],
        prefixes: Sequence[str],
        query: NDArray[np.float32] | None = None,
        filters: Filters = NO_FILTERS,
    ) -> list[Named]:
        """The repos whose flat name is one of `names` or begins with one of `prefixes`.

        In no order, each once. The database reads NAMED_ROWS rows of each prefix and of all
        `names`, and no more. Without `query` scores are 0.
        """

    def repos(self, keys: Sequence[Key]) -> list[Mapping[str, Any]]:
        """The fields of those of `keys` that exist, in no order."""

    def repo(self, full_name: str) -> Mapping[str, Any] | None:
        """The repo called `full_name` (owner/name), if there is one; case is ignored."""

    def vector(self, key: Key) -> StoredVector | None:
        """The vector of a repo, if it has one."""

    def dates(self, keys: Sequence[Key]) -> dict[str, datetime]:
        """When the vectors of `keys` were written, by `key_text`; of those that have one."""

    def page(self, after: Key | None, rows: int, filters: Filters) -> list[StoredVector]:
        """The next `rows` vectors in key order; `after` None begins at the first."""


class SurrealRetrieval:
    """In SurrealDB, with an index for names and one for vectors."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._table = space.table  # [a-z0-9_], as every Space sees to
        self._nearest = Neighbours(database, space.table)
        self._passages = PassageNeighbours(database, space)

    def nearest(
        self,
        query: NDArray[np.float32],
        k: int,
        filters: Filters = NO_FILTERS,
        *,
        passages: bool = False,
    ) -> list[Neighbour]:
        found = [(key, score, "") for key, score in self._nearest.find(query, k, filters)]
        if passages:
            found = merged(found, self._passages.find_rows(query, k, filters))
        by_key = {key_text(repo["id"].id): repo for repo in self.repos([key for key, *_ in found])}
        return [
            Neighbour(by_key[key_text(key)], score, passage)
            for key, score, passage in found
            if key_text(key) in by_key
        ][:k]

    def named(
        self,
        names: Sequence[str],
        prefixes: Sequence[str],
        query: NDArray[np.float32] | None = None,
        filters: Filters = NO_FILTERS,
    ) -> list[Named]:
        score = "0f" if query is None else "vector::similarity::cosine(vector, $query)"
        passing, bound = conditions(filters)
        where = where_all(["repo.id != NONE", *passing])
        spans = ["name IN $names"] if names else []
        for number, prefix in enumerate(prefixes):
            bound |= {f"from_{number}": prefix, f"to_{number}": prefix + _BEYOND}
            spans.append(f"name >= $from_{number} AND name < $to_{number}")
        # The filters are outside: 2.x would leave the index for a function beside it.
        statements = [
            f"SELECT id, repo.full_name AS full_name, {score} AS score FROM (SELECT id, repo, "
            f"vector FROM {self._table} WHERE {span} LIMIT {NAMED_ROWS}){where}"
            for span in spans
        ]
        if not statements:
            return []
        answers = self._database.query(
            ";".join(statements),
            names=list(names),
            query=None if query is None else VectorBytes(query),
            **bound,
        )
        return list(
            {
                key_text(one["id"].id): Named(
                    one["id"].id, str(one["full_name"] or ""), float(one["score"])
                )
                for answer in answers
                for one in answer
            }.values()
        )

    def repos(self, keys: Sequence[Key]) -> list[Mapping[str, Any]]:
        return self._repos([record("repo", key) for key in keys])

    def repo(self, full_name: str) -> Mapping[str, Any] | None:
        wanted = full_name.lower()
        ids = [record("repo", wanted)]  # the key that the import gives it
        if (found := self._called(wanted, ids)) is not None:
            return found
        (ids,) = self._database.query(
            f"SELECT VALUE repo FROM {self._table} WHERE name = $name LIMIT {NAMED_ROWS}",
            name=flat_name(full_name),
        )
        if (found := self._called(wanted, ids)) is not None:
            return found
        # Without an index of the user's own, this reads the whole table: it comes last.
        (ids,) = self._database.query(
            "SELECT VALUE id FROM repo WHERE full_name = $full_name LIMIT 1", full_name=full_name
        )
        return self._called(wanted, ids)

    def vector(self, key: Key) -> StoredVector | None:
        (found,) = self._database.query(
            f"{_VECTOR} FROM $vector WHERE repo.id != NONE", vector=record(self._table, key)
        )
        return _stored(found[0]) if found else None

    def dates(self, keys: Sequence[Key]) -> dict[str, datetime]:
        (found,) = self._database.query(
            "SELECT id, embedded_at FROM $vectors",
            vectors=[record(self._table, key) for key in keys],
        )
        dates = {key_text(one["id"].id): one["embedded_at"] for one in found}
        return {key: at for key, at in dates.items() if isinstance(at, datetime)}

    def page(self, after: Key | None, rows: int, filters: Filters) -> list[StoredVector]:
        source, bound = records_after(self._database, self._table, after)
        passing, values = conditions(filters)
        where = where_all(["repo.id != NONE", *passing])
        (found,) = self._database.query(
            f"{_VECTOR} FROM {source}{where} LIMIT $rows",
            rows=rows,
            **bound,
            **values,
        )
        return [_stored(one) for one in found]

    def has_index(self) -> bool:
        """Whether the HNSW index exists and is built."""
        return self._nearest.has_index()

    def exact_s(self) -> float | None:
        """Seconds that a search takes without the index, by a sample; None: the index is built."""
        return self._nearest.exact_s()

    def _called(self, wanted: str, ids: Sequence[RecordID]) -> Mapping[str, Any] | None:
        """The first of the repos whose full name, or key without one, is `wanted`."""
        for repo in self._repos(ids):
            if str(repo.get("full_name") or repo["id"].id).lower() == wanted:
                return repo
        return None

    def _repos(self, ids: Sequence[RecordID]) -> list[Mapping[str, Any]]:
        """The existing records of `ids`; only the id of one that the database cannot return."""
        if not ids:
            return []
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


_VECTOR = "SELECT id, vector, own_hash ?? text_hash AS text_hash, embedded_at, cut, passages"


def _stored(row: Mapping[str, Any]) -> StoredVector:
    import numpy as np  # here, as most processes load no vector

    at = row.get("embedded_at")
    return StoredVector(
        row["id"].id,
        np.asarray(row["vector"], dtype=np.float32),
        str(row.get("text_hash") or ""),
        at if isinstance(at, datetime) else None,
        row.get("cut") is True,
        int(row.get("passages") or 0),
    )
