"""Search through the index gives what exact search does; that is in test_store_search.py."""

from __future__ import annotations

import numpy as np
import pytest

from embed_star.embed.text import text_hash
from embed_star.errors import SchemaError
from embed_star.store.tables import neighbours, passage_neighbours
from embed_star.store.tables.filters import Filters
from embed_star.store.tables.passage_neighbours import PassageNeighbours
from embed_star.store.tables.retrieval import Neighbour
from tests.conftest import DIMENSIONS
from tests.support.command_line import embed_star
from tests.support.lab import example_readme
from tests.support.scripted_answers import vector_for
from tests.support.servers import eventually
from tests.support.world import World

LANGUAGES = ["Python", "Rust", "python", None]


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
    world.settle()
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
    def test_odd_fields_are_no_hindrance(self, filled: World) -> None:
        filled.query("UPDATE repo:1 SET language = ['Rust'], stargazers_count = 'many'")
        filled.query("UPDATE repo:2 SET language = { a: 1 }, stargazers_count = NULL")
        query = vector_for("a question", DIMENSIONS)
        assert len(filled.store.retrieval.nearest(query, 99, Filters(language="rust"))) >= 9
        assert 2 not in keys(filled.store.retrieval.nearest(query, 99, Filters(min_stars=0)))


class TestNames:
    @pytest.fixture
    def older(self, filled: World) -> World:
        """Its vectors were written before vectors had names."""
        table = filled.table
        filled.query(f"REMOVE INDEX embedding_name ON {table}")
        filled.query(f"UPDATE {table} UNSET name RETURN NONE")
        assert all("name" not in row for row in filled.vectors().values())
        return filled

    def test_a_name_that_the_database_computes_is_removed(self, filled: World) -> None:
        filled.query(f"DEFINE FIELD name ON {filled.table} VALUE repo.full_name")
        with pytest.raises(SchemaError, match="run `embed-star migrate`"):
            filled.store.check()
        assert filled.store.spaces.ensure(filled.space, filled.settings.text_fields) is True
        filled.store.check()
        (info,) = filled.store.database.query(f"INFO FOR TABLE {filled.table}")
        assert info["fields"] == {}

    def test_an_older_table_is_migrated_and_a_reconcile_gives_the_names(self, older: World) -> None:
        with pytest.raises(SchemaError, match="no index of names: run `embed-star migrate`"):
            older.store.check()
        dry_run = embed_star("migrate", "--dry-run", env=older.environment)
        assert dry_run.assert_worked() == "would give the vectors names, and an index of them\n"
        assert older.store.spaces.ensure(older.space, older.settings.text_fields) is True
        older.store.check()
        assert older.store.spaces.ensure(older.space, older.settings.text_fields) is False
        assert older.reconcile() == 0
        assert {row["name"] for row in older.vectors().values()} == {f"name{n}" for n in range(40)}
        eventually(
            lambda: [one.key for one in older.store.retrieval.named(["name7"], [])] == [7],
            "the index of names is built",
        )
        older.assert_current()

    def test_a_full_name_that_is_no_text_fails_no_write(self, world: World) -> None:
        for key, literal in enumerate(
            ["NONE", "NULL", "5", "[1, {a: 2}]", "{ b: 1 }", "d'2024-01-01T00:00:00Z'", "repo:1"]
        ):
            world.query(f"CREATE repo:{key} SET description = 'x', full_name = {literal}")
        world.settle()
        world.assert_current()
        assert len(world.vectors()) == 7


class TestExactTime:
    def test_grows_with_the_table(self, filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "_SAMPLE", 1)
        taken_s = filled.store.retrieval.exact_s()
        assert taken_s is not None
        assert 0 < taken_s < 30
        moments = iter(range(99))
        monkeypatch.setattr(neighbours.time, "perf_counter", lambda: float(next(moments)))
        assert filled.store.retrieval.exact_s() == 40.0  # a second each

    def test_of_an_empty_table_is_none_at_all(self, world: World) -> None:
        assert world.store.retrieval.exact_s() == 0.0


class TestIndexed:
    @pytest.fixture
    def indexed(self, filled: World) -> World:
        vectors, retrieval = filled.store.vectors, filled.store.retrieval
        assert not retrieval.has_index()
        assert vectors.build_index() is True
        eventually(retrieval.has_index, "the index is built")
        assert vectors.build_index() is False
        assert retrieval.exact_s() is None
        return filled

    def queries_of(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What the database is asked from now on."""
        asked: list[str] = []
        query_of = world.store.database.query

        def query(sql: str, **params: object) -> list[object]:
            asked.append(sql)
            return query_of(sql, **params)

        monkeypatch.setattr(world.store.database, "query", query)
        return asked

    def test_gives_the_same_top_hits(self, indexed: World) -> None:
        for n in range(5):
            query = vector_for(f"question {n}", DIMENSIONS)
            hits = indexed.store.retrieval.nearest(query, 5)
            assert keys(hits) == expected(indexed, query, list(range(40)))[:5]

    def test_filters_are_exact_all_the_same(self, indexed: World) -> None:
        query = vector_for("a question", DIMENSIONS)
        rust = [n for n in range(40) if n % 4 == 1]
        hits = indexed.store.retrieval.nearest(query, 99, Filters(language="rust"))
        assert keys(hits) == expected(indexed, query, rust)
        for n in range(5):  # among the nearest of all there may be none that fits
            query = vector_for(f"question {n}", DIMENSIONS)
            hits = indexed.store.retrieval.nearest(query, 2, Filters(min_stars=38))
            assert keys(hits) == expected(indexed, query, [38, 39])

    def test_reads_more_of_the_nearest_until_enough_pass(
        self, indexed: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a small table, by small steps: 4 of the nearest, then 12, then what passes."""
        monkeypatch.setattr(neighbours, "_STEPS", (4, 12))
        asked = self.queries_of(indexed, monkeypatch)
        steps = set()
        for n in range(20):
            question = vector_for(f"question {n}", DIMENSIONS)
            for filters, wanted in (
                (Filters(language="python"), [one for one in range(40) if one % 2 == 0]),
                (Filters(language="rust"), [one for one in range(40) if one % 4 == 1]),
                (Filters(min_stars=38), [38, 39]),
                (Filters(min_stars=99), []),
            ):
                asked.clear()
                found = keys(indexed.store.retrieval.nearest(question, 2, filters))
                assert found == expected(indexed, question, wanted)[:2]
                searched = [sql for sql in asked if "<|" in sql]
                steps.add((len(searched), any("VALUE id FROM repo" in sql for sql in asked)))
        assert steps == {(1, False), (2, False), (1, True), (2, True)}

    def test_compares_all_where_the_rows_that_pass_cannot_be_listed(
        self, indexed: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neighbours, "FEW", 1)
        query = vector_for("a question", DIMENSIONS)
        hits = indexed.store.retrieval.nearest(query, 9, Filters(min_stars=38))
        assert keys(hits) == expected(indexed, query, [38, 39])

    def test_filters_by_what_a_row_says_now(self, indexed: World) -> None:
        """A change of stars embeds nothing, and counts at once."""
        indexed.write(7, stargazers_count=10**6)
        assert indexed.outbox() == []
        hits = indexed.store.retrieval.nearest(
            vector_for("a question", DIMENSIONS), 9, Filters(min_stars=100)
        )
        assert keys(hits) == [7]

    def test_follows_edits_and_deletions(self, indexed: World) -> None:
        query = vector_for("brand new", DIMENSIONS)
        indexed.write(3, full_name="brand new", language=None)
        indexed.delete(5)
        indexed.settle()
        indexed.assert_current()
        hits = indexed.store.retrieval.nearest(query, 5)
        assert keys(hits)[0] == 3
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)
        assert 5 not in keys(indexed.store.retrieval.nearest(query, 40))
        assert indexed.vectors()["3"]["text_hash"] == text_hash("brand new")

    def test_filtered_passages_are_read_in_the_same_steps(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the rows that pass, where these are few, and of no others."""
        for key in range(20):
            readme = example_readme(*(f"{key} {n}" for n in range(key % 4)))
            world.write(key, full_name=f"owner/name{key}", stargazers_count=key, readme=readme)
        world.settle()
        asked = [
            (vector_for(f"question {n}", DIMENSIONS), k, Filters(min_stars=stars))
            for n in range(5)
            for stars in (4, 15, 18, 99)
            for k in (1, 3)
        ]

        def found() -> list[list[tuple[int, str]]]:
            hits = [world.store.retrieval.nearest(*one, passages=True) for one in asked]
            return [[(hit.repo["id"].id, hit.passage) for hit in some] for some in hits]

        exact = found()
        assert any(passage for hits in exact for _, passage in hits)
        world.store.passages.build_index()
        indexed = PassageNeighbours(world.store.database, world.space)
        eventually(indexed.has_index, "the index is built")
        monkeypatch.setattr(neighbours, "_STEPS", (4, 12))
        queries = self.queries_of(world, monkeypatch)
        assert found() == exact
        whole = f"AS score FROM {world.space.passages_table}"
        assert any("<|4," in sql for sql in queries)
        assert any("passages > 0" in sql for sql in queries)
        assert not any(whole in sql for sql in queries)
        monkeypatch.setattr(passage_neighbours, "FEW", 1)
        assert found() == exact
        assert any(whole in sql for sql in queries)

    def test_passages_have_one_of_their_own(self, world: World) -> None:
        sentences = "A sentence that is long enough to be kept, and some more. " * 5
        for key in range(20):
            readme = "".join(f"# Part {n}\n\n{sentences}{key} {n}.\n\n" for n in range(3))
            world.write(key, full_name=f"owner/name{key}", readme=readme)
        world.settle()
        indexed = PassageNeighbours(world.store.database, world.space)
        queries = [vector_for(f"question {n}", DIMENSIONS) for n in range(5)]
        exact = [world.store.retrieval.nearest(query, 5, passages=True) for query in queries]
        assert world.store.passages.build_index() is True
        eventually(indexed.has_index, "the index is built")
        assert world.store.passages.build_index() is False
        for query, wanted in zip(queries, exact, strict=True):
            hits = world.store.retrieval.nearest(query, 5, passages=True)
            assert keys(hits) == keys(wanted)
            assert [hit.passage for hit in hits] == [hit.passage for hit in wanted]
        world.write(3, readme="")
        world.settle()
        world.assert_current()
        assert all(
            not hit.passage
            for query in queries
            for hit in world.store.retrieval.nearest(query, 20, passages=True)
            if hit.repo["id"].id == 3
        )
