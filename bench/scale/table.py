"""A table of many rows to search in: variants of real rows, with vectors like theirs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality import corpus, needs, ways
from embed_star.devstack import examples
from embed_star.models import Key
from embed_star.providers.roles import Role
from embed_star.search import Filters
from embed_star.store.client.codec import VectorBytes, record
from embed_star.store.client.pool import Database
from embed_star.store.tables.names import flat_name

_NEEDS = Path(corpus.__file__).parent
_BATCH_TEXTS = 64
_INSERT_ROWS = 200
_SPREAD = 0.45
"""How far a variant lies from its row: this share of the difference of two others."""
_SEED = 12

FILTERS = {
    "none": Filters(),
    "python": Filters(language="Python"),
    "go": Filters(language="Go"),
    "elixir": Filters(language="Elixir"),
    "stars ≥ 1,000": Filters(min_stars=1_000),
    "stars ≥ 50,000": Filters(min_stars=50_000),
    "pushed in 2026, not archived": Filters(pushed_since=date(2026, 1, 1), archived=False),
    "topic of 1 %": Filters(topic="topic-7"),
    "Go, stars ≥ 1,000": Filters(language="Go", min_stars=1_000),
    "one owner": Filters(owner="owner-7"),
}
"""What the searches are filtered by, from what nearly all rows meet to what few do."""


@dataclass(frozen=True, slots=True)
class Many:
    """Rows with their vectors, and the queries."""

    rows: Sequence[dict[str, Any]]
    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    origin: str
    _cosines: NDArray[np.float32] = field(repr=False)

    def key(self, place: int) -> Key:
        return str(self.rows[place]["full_name"])

    def truth(self, passing: NDArray[np.bool_], k: int) -> list[list[Key]]:
        """The keys of the `k` nearest of those that pass, for each query."""
        places = np.flatnonzero(passing)
        best = np.argsort(-self._cosines[:, places], axis=1)[:, :k]
        return [[self.key(int(places[one])) for one in row] for row in best]

    def write(self, database: Database, table: str, places: range) -> None:
        """Insert these rows, and their vectors as a worker writes them."""
        for start in range(places.start, places.stop, _INSERT_ROWS):
            some = range(start, min(places.stop, start + _INSERT_ROWS))
            repos = [{"id": record("repo", self.key(place)), **self.rows[place]} for place in some]
            database.query("INSERT INTO repo $rows RETURN NONE", rows=repos)
            self.write_vectors(database, table, some)

    def write_vectors(self, database: Database, table: str, places: range) -> None:
        rows = [
            {
                "id": record(table, self.key(place)),
                "repo": record("repo", self.key(place)),
                "name": flat_name(self.key(place)),
                "vector": VectorBytes(self.vectors[place]),
                "text_hash": "0" * 32,
                "run": "0" * 26,
            }
            for place in places
        ]
        database.query(f"INSERT INTO {table} $rows RETURN NONE", rows=rows)


def made(count: int) -> Many:
    """`count` rows; the first are real, and each other one is a variant of one of them."""
    there = corpus.RANKING.exists()
    rows = corpus.RANKING if there else examples.find("repos.jsonl")
    asked = needs.read(_NEEDS / ("needs.jsonl" if there else "examples.jsonl"))
    real = corpus.read(rows.name, rows, asked)
    provider = ways.models()[0][1]()
    try:
        base = np.vstack(
            [
                provider.embed(real.texts[start : start + _BATCH_TEXTS]).vectors
                for start in range(0, len(real.texts), _BATCH_TEXTS)
            ]
        )
        queries = np.vstack([provider.embed([need.query], Role.QUERY).vectors for need in asked])
    finally:
        provider.close()
    generator = np.random.default_rng(_SEED)
    of, one, other = generator.integers(0, len(base), (3, count))
    of[: len(base)] = np.arange(min(len(base), count))
    vectors = base[of] + _SPREAD * (base[one] - base[other])
    vectors[: len(base)] = base[:count]
    vectors = np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    chance = random.Random(_SEED)  # noqa: S311 - the same rows in every run
    made_rows = [_variant(real.rows[of[place]], place, chance) for place in range(count)]
    return Many(made_rows, vectors, queries, real.name, queries @ vectors.T)


def _variant(row: dict[str, Any], place: int, chance: random.Random) -> dict[str, Any]:
    owner = f"owner-{chance.randrange(20_000)}"
    return {
        **row,
        "full_name": f"{owner}/{str(row['full_name']).rpartition('/')[2].lower()}-{place}",
        "owner": {"login": owner},
        "stargazers_count": int((row.get("stargazers_count") or 0) * chance.random() ** 2),
        "topics": [f"topic-{chance.randrange(400)}" for _ in range(4)],
        "pushed_at": f"202{chance.choice('4566')}-0{chance.randrange(1, 10)}-01T00:00:00Z",
        "archived": chance.random() < 0.05,
    }
