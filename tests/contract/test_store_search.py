"""Search, held against each store: exact, filtered, and blind to deleted repos."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from embed_star.store.tables.filters import Filters
from embed_star.store.tables.retrieval import Neighbour
from embed_star.store.tables.vectors import BulkWrite, VectorWrite
from tests.conftest import DIMENSIONS
from tests.support.scripted_answers import vector_for
from tests.support.world import World

LANGUAGES = ["Python", "Rust", "python", None]


def text_of(world: World, key: int) -> str:
    return world.text_of(full_name=f"owner/name{key}", language=LANGUAGES[key % 4])


@pytest.fixture
def filled(world: World) -> World:
    """40 repos, embedded: every fourth in `Rust`, stars as their number."""
    for key in range(40):
        world.write(
            key,
            full_name=f"owner/name{key}",
            language=LANGUAGES[key % 4],
            stargazers_count=key,
        )
    keys = list(range(40))
    vectors = [
        VectorWrite(key, vector_for(text_of(world, key), DIMENSIONS), f"h{key}") for key in keys
    ]
    assert all(world.store.locks.acquire(keys, "run", 60.0))
    world.store.vectors.apply(BulkWrite("run", vectors=vectors, locks=keys))
    return world


def keys(hits: list[Neighbour]) -> list[int]:
    return [hit.repo["id"].id for hit in hits]


def expected(world: World, query: np.ndarray, wanted: list[int]) -> list[int]:
    """The same by brute force over what is stored."""
    rows = world.vectors()
    stored = {key: np.float64(rows[str(key)]["vector"]) for key in wanted}
    score = {
        key: vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        for key, vector in stored.items()
    }
    return sorted(wanted, key=lambda key: -score[key])


class TestExact:
    def test_finds_what_is_nearest_best_first(self, filled: World) -> None:
        query = vector_for("a question", DIMENSIONS)
        hits = filled.store.retrieval.nearest(query, 10)
        assert keys(hits) == expected(filled, query, list(range(40)))[:10]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(-1 - 1e-6 <= score <= 1 + 1e-6 for score in scores)

    def test_finds_a_text_by_itself(self, filled: World) -> None:
        query = vector_for("owner/name7", DIMENSIONS)
        (hit,) = filled.store.retrieval.nearest(
            vector_for(filled.text_of(full_name="owner/name7"), DIMENSIONS), 1, Filters(min_stars=0)
        )
        assert hit.score <= 1 + 1e-6
        text = filled.text_of(full_name="owner/name6", language="python")
        (hit,) = filled.store.retrieval.nearest(vector_for(text, DIMENSIONS), 1)
        assert hit.score == pytest.approx(1.0, abs=1e-5)
        assert hit.repo["full_name"] == "owner/name6"
        assert hit.repo["stargazers_count"] == 6
        assert query.shape == (DIMENSIONS,)

    def test_filters_by_language_and_stars(self, filled: World) -> None:
        query = vector_for("a question", DIMENSIONS)
        search = filled.store.retrieval.nearest
        python = [n for n in range(40) if n % 4 in (0, 2)]
        assert keys(search(query, 99, Filters(language="PYTHON"))) == expected(
            filled, query, python
        )
        many = list(range(30, 40))
        assert keys(search(query, 99, Filters(min_stars=30))) == expected(filled, query, many)
        both = [n for n in many if n in python]
        assert (
            keys(search(query, 3, Filters(language="python", min_stars=30)))
            == expected(filled, query, both)[:3]
        )
        assert search(query, 5, Filters(language="' OR true OR '")) == []
        assert keys(search(query, 99, Filters(min_stars=0))) == expected(
            filled, query, list(range(40))
        )

    @pytest.mark.parametrize(
        ("filters", "wanted"),
        [
            (Filters(topic="Redis"), [0, 2]),
            (Filters(topic="red"), [3]),
            (Filters(topic="' OR true OR '"), []),
            (Filters(owner="OWNER"), [0, 1, 2, 3, 4]),
            (Filters(owner="own"), []),
            (Filters(owner="owner/name1"), []),
            (Filters(pushed_since=date(2026, 1, 31)), [1, 2, 5]),
            (Filters(pushed_since=date(2026, 2, 1)), [2, 5]),
            (Filters(archived=True), [1]),
            (Filters(archived=False), [0, 2, 3, 5]),
            (Filters(archived=False, topic="redis", pushed_since=date(2026, 2, 1)), [2]),
        ],
        ids=str,
    )
    def test_filters_by_topic_owner_push_and_archived(
        self, world: World, filters: Filters, wanted: list[int]
    ) -> None:
        rows: list[dict[str, object]] = [
            {"topics": ["queue", "redis"], "pushed_at": "2025-12-31T23:59:59Z", "archived": False},
            {"topics": [], "pushed_at": "2026-01-31T00:00:00Z", "archived": True},
            {"topics": ["redis"], "pushed_at": datetime(2026, 2, 1, 9, tzinfo=UTC)},
            {"topics": "red", "archived": None},
            {"topics": 5, "pushed_at": 1767225600, "archived": "yes"},
            {"full_name": "owner2/name5", "topics": [1, None], "pushed_at": "2026-12-01T00:00:00Z"},
        ]
        for key, row in enumerate(rows):
            world.write(key, **{"full_name": f"owner/name{key}", **row})
        some = [
            VectorWrite(key, vector_for(f"text {key}", DIMENSIONS), "h") for key in range(len(rows))
        ]
        every = list(range(len(rows)))
        assert all(world.store.locks.acquire(every, "run", 60.0))
        world.store.vectors.apply(BulkWrite("run", vectors=some, locks=every))
        query = vector_for("a question", DIMENSIONS)
        found = keys(world.store.retrieval.nearest(query, 9, filters))
        assert found == expected(world, query, wanted)
        assert {one.key for one in world.store.retrieval.page(None, 9, filters)} == set(wanted)

    def test_hides_what_is_deleted_before_its_vector_is(self, filled: World) -> None:
        query = vector_for("a question", DIMENSIONS)
        best = keys(filled.store.retrieval.nearest(query, 3))
        filled.delete(best[0])
        assert str(best[0]) in filled.vectors()
        found = filled.store.retrieval.nearest(query, 40)
        assert best[0] not in keys(found)
        assert len(found) == 39
        assert keys(found)[:2] == best[1:]

    def test_an_empty_table_finds_nothing(self, world: World) -> None:
        assert world.store.retrieval.nearest(vector_for("x", DIMENSIONS), 5) == []
        assert world.store.vectors.count() == 0
        assert world.store.vectors.keys_page(None, 5) == []
        assert world.store.vectors.without_repo([]) == []

    def test_orphans_are_told_by_their_exact_key(self, world: World) -> None:
        world.write(1, full_name="a number")
        world.write("2", full_name="a string")
        assert world.store.vectors.without_repo([1, "1", 2, "2", [1]]) == ["1", 2, [1]]


def test_dates_say_when_each_vector_was_written(filled: World) -> None:
    dates = filled.store.retrieval.dates([3, 7, 99])
    assert dates == {key: filled.vectors()[key]["embedded_at"] for key in ("3", "7")}
    assert filled.store.retrieval.dates([]) == {}
