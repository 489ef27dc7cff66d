"""Search by name and meaning, look-up, similar repos and duplicates, without a server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from embed_star.errors import ConfigError, NotEmbedded, UnknownRepo
from embed_star.models import MAX_HITS
from embed_star.search import (
    Duplicates,
    Filters,
    Hit,
    Lookup,
    Mode,
    NameMatch,
    Search,
    Similar,
)
from tests.support.memory_world import MemoryWorld
from tests.support.scripted_answers import vector_for
from tests.unit.core.test_search import search_of

REPOS = {
    "celery/celery": ("Python", 25_000),
    "someone/celery": ("Go", 3),
    "zhm/celery-once": ("Python", 600),
    "rq/rq": ("Python", 10_000),
    "nvim-telescope/telescope.nvim": ("Lua", 15_000),
    "elastic/elasticsearch": ("Java", 70_000),
}


@pytest.fixture
def filled(world: MemoryWorld) -> MemoryWorld:
    for name, (language, stars) in REPOS.items():
        world.write(
            name, full_name=name, description="x", language=language, stargazers_count=stars
        )
    world.settle()
    return world


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.repo["full_name"] for hit in hits]


def lookup_of(world: MemoryWorld) -> Lookup:
    return Lookup(world.store.retrieval, world.store.failures)


def similar_of(world: MemoryWorld) -> Similar:
    return Similar(world.store.retrieval, lookup_of(world))


class TestSearch:
    @pytest.mark.parametrize(
        ("query", "first", "match"),
        [
            ("someone/celery", "someone/celery", NameMatch.FULL_NAME),
            ("RQ", "rq/rq", NameMatch.NAME),
            ("telescope", "nvim-telescope/telescope.nvim", NameMatch.CORE_NAME),
            ("elasticsaerch", "elastic/elasticsearch", NameMatch.TYPO),
            ("celery on", "zhm/celery-once", NameMatch.PREFIX),
        ],
    )
    def test_a_matching_name_is_first_whatever_the_meaning(
        self, filled: MemoryWorld, query: str, first: str, match: NameMatch
    ) -> None:
        hits = search_of(filled).find(query, 6)
        assert names(hits)[0] == first
        assert hits[0].name is match
        assert match.value in hits[0].reason
        assert sorted(names(hits)) == sorted(REPOS), "each once"

    def test_by_kind_of_match_and_then_by_meaning(self, filled: MemoryWorld) -> None:
        hits = search_of(filled).find("celery", 6)
        named, rest = hits[:3], hits[3:]
        assert [hit.name for hit in named] == [NameMatch.NAME, NameMatch.NAME, NameMatch.PREFIX]
        assert named[0].score >= named[1].score
        assert [hit.name for hit in rest] == [None] * 3
        scores = [hit.score for hit in rest]
        assert scores == sorted(scores, reverse=True)

    def test_by_meaning_alone(self, filled: MemoryWorld) -> None:
        hits = search_of(filled).find("celery", 6, mode=Mode.VECTOR)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert {hit.name for hit in hits} == {None}
        query = vector_for("celery", 8)
        nearest = filled.store.retrieval.nearest(query, 6)
        assert names(hits) == [one.repo["full_name"] for one in nearest]

    def test_a_sentence_goes_by_meaning(self, filled: MemoryWorld) -> None:
        query = "a queue for background jobs"
        assert search_of(filled).find(query, 6) == search_of(filled).find(
            query, 6, mode=Mode.VECTOR
        )

    def test_filters_hold_for_names_too(self, filled: MemoryWorld) -> None:
        find = search_of(filled).find
        assert names(find("celery", 6, Filters(language="GO"))) == ["someone/celery"]
        assert "someone/celery" not in names(find("someone/celery", 6, Filters(min_stars=4)))
        assert find("celery", 6, Filters(language="COBOL")) == []

    def test_as_many_as_are_asked_for(self, filled: MemoryWorld) -> None:
        find = search_of(filled).find
        assert names(find("celery", 1)) == names(find("celery", 6))[:1]
        assert names(find("celery", 4)) == names(find("celery", 6))[:4]

    def test_a_repo_that_is_deleted_is_not_shown(self, filled: MemoryWorld) -> None:
        filled.delete("someone/celery")
        assert "someone/celery" not in names(search_of(filled).find("celery", 6))

    @pytest.mark.parametrize("query", ["", " \n", "\0", "\0 "])
    def test_an_empty_query_is_a_sentence(self, filled: MemoryWorld, query: str) -> None:
        with pytest.raises(ConfigError, match="the query is empty"):
            search_of(filled).find(query, 5)

    @pytest.mark.parametrize(
        "query", ["🚀🚀", "очередь задач", "ジョブキュー", "/", "x" * 100_000, "x " * 50_000]
    )
    def test_an_odd_query_is_answered(self, filled: MemoryWorld, query: str) -> None:
        assert len(search_of(filled).find(query, 6)) == 6

    @pytest.mark.parametrize("k", [0, -1, MAX_HITS + 1, 10_000])
    def test_a_count_out_of_range_is_a_sentence(self, filled: MemoryWorld, k: int) -> None:
        for find in (search_of(filled).find, similar_of(filled).find):
            with pytest.raises(ConfigError, match="gives 1 to 1,000 answers"):
                find("rq/rq", k)
        with pytest.raises(ConfigError, match="gives 1 to 1,000 answers"):
            Duplicates(filled.store.retrieval).find(k)

    def test_nothing_is_paid_for_a_count_out_of_range(self, filled: MemoryWorld) -> None:
        before = list(filled.provider.calls)
        search: Search = search_of(filled)
        with pytest.raises(ConfigError):
            search.find("celery", 0)
        assert filled.provider.calls == before


class TestLookup:
    def test_an_embedded_repo(self, filled: MemoryWorld) -> None:
        found = lookup_of(filled).get("Celery/celery ")
        assert found.repo["full_name"] == "celery/celery"
        assert found.embedded_at is not None
        assert (found.cut, found.failure) == (False, "")

    def test_a_pending_one(self, filled: MemoryWorld) -> None:
        filled.write("new/thing", full_name="new/thing")
        found = lookup_of(filled).get("new/thing")
        assert (found.embedded_at, found.failure) == (None, "")

    def test_one_that_failed(self, filled: MemoryWorld) -> None:
        filled.provider.rejects = lambda text: "poison" in text
        filled.write("bad/poison", full_name="bad/poison")
        filled.settle()
        found = lookup_of(filled).get("bad/poison")
        assert (found.embedded_at, found.failure) == (None, "rejected")

    @pytest.mark.parametrize(
        ("asked", "near"),
        [
            ("celery/celry", ("celery/celery", "someone/celery")),
            ("celry/celery", ("celery/celery", "someone/celery")),
            ("elastic/elasticsaerch", ("elastic/elasticsearch",)),
            ("celery", ("celery/celery", "someone/celery")),
            ("nobody/nothing", ()),
            ("/", ()),
            ("", ()),
            ("🚀/🚀", ()),
            ("x" * 100_000, ()),
        ],
    )
    def test_an_unknown_name_is_a_sentence_with_near_names(
        self, filled: MemoryWorld, asked: str, near: tuple[str, ...]
    ) -> None:
        for find in (lookup_of(filled).get, lambda name: similar_of(filled).find(name, 5)):
            with pytest.raises(UnknownRepo) as raised:
                find(asked)
            assert raised.value.near[: len(near)] == near
            assert bool(raised.value.near) == bool(near)
            said = str(raised.value)
            assert len(said) < 300
            assert all(name in said for name in near)


class TestSimilar:
    def test_by_the_stored_vectors_without_itself(self, filled: MemoryWorld) -> None:
        before = list(filled.provider.calls)
        hits = similar_of(filled).find("rq/rq", 10)
        assert sorted(names(hits)) == sorted(set(REPOS) - {"rq/rq"})
        vector = filled.store.retrieval.vector("rq/rq")
        assert vector is not None
        nearest = filled.store.retrieval.nearest(vector.vector, 10)
        assert names(hits) == [one.repo["full_name"] for one in nearest][1:]
        assert names(similar_of(filled).find("rq/rq", 2)) == names(hits)[:2]
        assert filled.provider.calls == before, "no provider is asked"

    def test_filters(self, filled: MemoryWorld) -> None:
        hits = similar_of(filled).find("rq/rq", 10, Filters(language="python", min_stars=1000))
        assert names(hits) == ["celery/celery"]

    def test_a_repo_without_a_vector_is_a_sentence(self, filled: MemoryWorld) -> None:
        filled.write("new/thing", full_name="new/thing")
        with pytest.raises(NotEmbedded, match="new/thing has no vector yet"):
            similar_of(filled).find("new/thing", 5)


class TestDuplicates:
    @pytest.fixture
    def copies(self, filled: MemoryWorld) -> MemoryWorld:
        for key in ("fork/a", "fork/b", "fork/c"):
            filled.write(key, full_name="fork/same", description="the same words", language="C")
        filled.settle()
        return filled

    def test_the_same_text_is_a_pair_each_way_once(self, copies: MemoryWorld) -> None:
        found = Duplicates(copies.store.retrieval).find(10, min_score=0.999)
        assert len(found) == 3
        for pair in found:
            assert pair.same_text
            assert pair.score == pytest.approx(1.0, abs=1e-5)
            assert pair.reason == "the same text"
            assert pair.repo["id"].id != pair.other["id"].id
        assert len(Duplicates(copies.store.retrieval).find(2, min_score=0.999)) == 2

    def test_all_pairs_above_a_score_best_first(self, filled: MemoryWorld) -> None:
        vectors = {
            name: vector_for(
                filled.text_of(full_name=name, description="x", language=REPOS[name][0]), 8
            )
            for name in REPOS
        }
        wanted = sorted(
            (
                float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
                for place, one in enumerate(vectors.values())
                for other in list(vectors.values())[place + 1 :]
            ),
            reverse=True,
        )
        found = Duplicates(filled.store.retrieval).find(100, min_score=-1.0)
        assert [pair.score for pair in found] == pytest.approx(wanted, abs=1e-5)
        some = Duplicates(filled.store.retrieval).find(100, min_score=0.0)
        assert [pair.score for pair in some] == [pair.score for pair in found if pair.score >= 0]

    def test_filters(self, copies: MemoryWorld) -> None:
        found = Duplicates(copies.store.retrieval).find(
            10, min_score=-1.0, filters=Filters(language="python")
        )
        languages = {repo["language"] for pair in found for repo in (pair.repo, pair.other)}
        assert languages == {"Python"}
        nothing = Filters(language="COBOL")
        assert Duplicates(copies.store.retrieval).find(10, filters=nothing) == []

    def test_too_many_are_a_sentence(self, copies: MemoryWorld) -> None:
        few = Duplicates(copies.store.retrieval, max_rows=3)
        with pytest.raises(ConfigError, match=r"more than 3 repositories .* --language"):
            few.find(10)
        assert few.find(10, min_score=-1.0, filters=Filters(language="python"))
