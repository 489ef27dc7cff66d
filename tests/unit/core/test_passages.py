"""Rows with READMEs, on the whole way: what is paid for, what is stored, what goes."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from embed_star.api.results import Result
from embed_star.cli.hits import table
from embed_star.embed.passages import Passage, split
from embed_star.mcp.answers import MOST_CHARACTERS, of_results
from embed_star.models import MOST_PASSAGES, Key, Status, key_text
from embed_star.search import Hit, Mode, Search
from embed_star.store.tables.filters import Filters
from embed_star.store.tables.vectors import BulkWrite
from tests.conftest import DIMENSIONS
from tests.support.scripted_answers import vector_for
from tests.support.world import World

KEYS: list[Key] = [1, "a/b", ["x", 2], {"a": 1}, UUID("018f4f6e-0000-7000-8000-000000000001")]
WORDS = " ".join(f"A queue for jobs that keeps its promises, number {n}." for n in range(9))


def readme(*parts: str) -> str:
    """A README with a passage for each of `parts`."""
    return "".join(f"# {part}\n\n{WORDS} {part}.\n\n" for part in parts)


def passages_of(world: World, text: str) -> list[Passage]:
    return split(text, world.settings.text_tokens)


class TestARowWithAReadme:
    def test_has_a_vector_for_its_text_and_for_each_passage(self, world: World) -> None:
        text = readme("One", "Two")
        world.write(1, full_name="a/b", readme=text)
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
        assert dict(world.provider.paid) == {
            "a/b": 1,
            **{one.text: 1 for one in passages_of(world, text)},
        }
        assert world.vectors()["1"]["passages"] == world.store.passages.count() == 2
        assert world.outbox() == []
        assert world.reconcile() == 0

    def test_an_edit_pays_for_what_it_changes(self, world: World) -> None:
        world.write(1, full_name="a/b", readme=readme("One", "Two", "Three"))
        world.settle()
        world.lose_cache()
        world.provider.paid.clear()
        edited = readme("New", "One", "2nd", "Three")
        world.write(1, readme=edited)
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
        new = [one.text for one in passages_of(world, edited) if one.heading in ("New", "2nd")]
        assert dict(world.provider.paid) == dict.fromkeys(new, 1)
        assert world.store.passages.count() == 4
        world.lose_cache()
        world.provider.paid.clear()
        world.write(1, full_name="a/other")
        world.settle()
        assert dict(world.provider.paid) == {"a/other": 1}
        world.lose_cache()
        world.provider.paid.clear()
        world.write(1, readme=f"[![badge](a)](b)\n{edited}")
        assert world.carry_out(world.claim()) == {Status.CACHED: 1}
        assert not world.provider.paid
        assert world.reconcile() == 0

    def test_other_fields_cost_nothing(self, world: World) -> None:
        world.write(1, full_name="a/b", readme=readme("One"))
        world.settle()
        world.write(1, stargazers_count=7)
        assert world.outbox() == []
        world.write(1, readme=readme("Two"))
        assert len(world.outbox()) == 1

    @pytest.mark.parametrize("left", ["", None, 7, ["a"], "too short"], ids=repr)
    def test_passages_that_are_gone_go(self, world: World, left: Any) -> None:
        world.write(1, full_name="a/b", readme=readme("One", "Two"))
        world.settle()
        world.provider.paid.clear()
        world.write(1, readme=left)
        world.settle()
        assert world.store.passages.count() == 0
        assert "passages" not in world.vectors()["1"]
        assert not world.provider.paid
        assert world.reconcile() == 0

    @pytest.mark.parametrize("key", KEYS, ids=repr)
    def test_a_deleted_row_loses_them(self, world: World, key: Key) -> None:
        world.write(key, full_name="a/b", readme=readme("One", "Two"))
        world.write("other", full_name="c/d", readme=readme("One"))
        world.settle()
        assert world.store.passages.count() == 3
        world.delete(key)
        assert world.carry_out(world.claim()) == {Status.GONE: 1}
        assert world.store.passages.count() == 1
        assert world.reconcile() == 0

    def test_has_so_many_passages_and_no_more(self, world: World) -> None:
        world.write(1, full_name="a/b", readme=readme(*(f"Part {n}" for n in range(100))))
        world.settle()
        assert world.store.passages.count() == MOST_PASSAGES

    def test_a_passage_that_is_refused_is_left_out(self, world: World) -> None:
        text = readme("One", "Two", "Three")
        _, bad, _ = passages_of(world, text)
        world.provider.rejects = bad.text.__eq__
        world.write(1, full_name="a/b", readme=text)
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
        stored = world.vectors()["1"]
        assert (stored["passages"], stored["left_out"]) == (2, 1)
        assert world.failures() == {}
        (state,) = world.store.passages.load([(1, 3)])
        assert bad.hash not in state.vectors
        assert world.reconcile() == 0

    def test_a_row_whose_own_text_is_refused_is_set_aside_with_its_passages(
        self, world: World
    ) -> None:
        world.write(1, full_name="a/b", readme=readme("One"))
        world.settle()
        world.provider.rejects = "a/bad".__eq__
        world.write(1, full_name="a/bad")
        assert world.carry_out(world.claim()) == {Status.FAILED: 1}
        assert (world.vectors(), world.store.passages.count()) == ({}, 0)
        assert world.reconcile() == 0


class TestTheReconcile:
    def test_finds_a_readme_that_no_event_announced(self, world: World) -> None:
        world.write(1, full_name="a/b")
        world.write(2, full_name="c/d")
        world.settle()
        with world.unannounced():
            world.write(1, readme=readme("One"))
        assert world.reconcile() == 1
        world.settle()
        assert world.store.passages.count() == 1
        assert world.reconcile() == 0

    @pytest.mark.parametrize("key", KEYS, ids=repr)
    def test_removes_passages_that_no_vector_counts(self, world: World, key: Key) -> None:
        world.write(key, full_name="a/b", readme=readme("One", "Two"))
        world.write("stays", full_name="c/d", readme=readme("One"))
        world.settle()
        assert world.store.passages.count() == 3
        assert all(world.store.locks.acquire([key], "run", 60.0))
        # As if somebody had deleted the vector, and not its passages.
        world.store.vectors.apply(BulkWrite("run", stale=[key], locks=[key]))
        with world.unannounced():
            world.delete(key)
        assert world.reconcile() == 0
        assert world.store.passages.count() == 1

    def test_removes_those_of_retired_spaces(self, make_world: Any) -> None:
        old = make_world()
        old.write(1, full_name="a/b", readme=readme("One", "Two"))
        old.write(2, full_name="c/d", readme=readme("One"))
        old.settle()
        new = make_world(embedding_model="other-model")
        with new.unannounced():
            new.delete(1)
        assert new.reconcile() == 1
        assert old.store.passages.count() == 1


class TestTheSearch:
    def test_is_by_the_nearest_of_a_rows_vectors(self, world: World) -> None:
        text = readme("One", "Two")
        world.write(1, full_name="a/b", readme=text)
        for key in range(2, 8):
            world.write(key, full_name=f"c/{key}", readme=readme(f"Other {key}"))
        world.settle()
        wanted = passages_of(world, text)[1]
        query = vector_for(wanted.text, DIMENSIONS)
        best, *others = world.store.retrieval.nearest(query, 5, passages=True)
        assert (best.repo["full_name"], best.passage) == ("a/b", wanted.hash)
        assert best.score == pytest.approx(1.0, abs=1e-5)
        assert len({key_text(one.repo["id"].id) for one in (best, *others)}) == 5
        assert not any(one.passage for one in world.store.retrieval.nearest(query, 5))
        own = world.store.retrieval.nearest(vector_for("a/b", DIMENSIONS), 1, passages=True)[0]
        assert (own.repo["full_name"], own.passage) == ("a/b", "")

    def test_filters_hold_for_passages(self, world: World) -> None:
        text = readme("One")
        world.write(1, full_name="a/b", readme=text, language="Rust", stargazers_count=3)
        world.write(2, full_name="c/d", readme=text, language="Python", stargazers_count=9)
        world.settle()
        query = vector_for(passages_of(world, text)[0].text, DIMENSIONS)
        for filters, key in ((Filters(language="rust"), 1), (Filters(min_stars=5), 2)):
            (one,) = world.store.retrieval.nearest(query, 5, filters, passages=True)
            assert (one.repo["id"].id, one.passage) == (key, passages_of(world, text)[0].hash)
        world.delete(2)
        assert len(world.store.retrieval.nearest(query, 5, passages=True)) == 1


class TestTheHits:
    def test_show_the_passage_that_was_found(self, world: World) -> None:
        text = readme("One", "Two")
        world.write(1, full_name="a/b", description="About it", readme=text)
        world.settle()
        wanted = passages_of(world, text)[1]
        (hit,) = found(world, wanted.text)
        assert hit.passage == wanted
        assert hit.reason == "meaning of its README"
        assert hit.to_dict()["passage"] == {"heading": "Two", "text": wanted.body}
        result = Result.of(hit)
        assert (result.heading, result.passage) == ("Two", wanted.body)
        assert result.to_dict()["passage"]["text"] == wanted.body
        answer = of_results([result])
        assert answer.structured_content
        (shown,) = answer.structured_content["hits"]
        assert shown["passage"].startswith("Two: A queue for jobs")
        assert len(shown["passage"]) <= MOST_CHARACTERS
        assert "README: Two: A queue" in answer.content[0].text  # type: ignore[union-attr]
        printed = StringIO()
        Console(width=200, file=printed).print(table([hit]))
        assert "Two: A queue for jobs" in printed.getvalue()

    def test_have_none_where_the_text_itself_was_found(self, world: World) -> None:
        world.write(1, full_name="a/b", readme=readme("One"))
        world.settle()
        (hit,) = found(world, "a/b")
        assert hit.passage is None
        assert "passage" not in hit.to_dict()
        assert Result.of(hit).passage is None

    @pytest.mark.parametrize("left", [None, 7, "", "# Else"], ids=repr)
    def test_have_none_where_the_readme_is_another_by_now(self, world: World, left: Any) -> None:
        text = readme("One")
        world.write(1, full_name="a/b", readme=text)
        world.settle()
        world.write(1, readme=left)
        (hit,) = found(world, passages_of(world, text)[0].text)
        assert (hit.repo["full_name"], hit.passage) == ("a/b", None)


def test_a_change_of_model_embeds_all_anew_and_the_way_back_nothing(make_world: Any) -> None:
    old = make_world()
    old.write(1, full_name="a/b", readme=readme("One", "Two"))
    old.settle()
    new = make_world(embedding_model="other-model")
    assert new.reconcile() == 1
    new.settle()
    assert len(new.provider.paid) == 3
    assert (old.store.passages.count(), new.store.passages.count()) == (2, 2)
    new.assert_current()
    back = make_world()
    assert back.reconcile() == 0
    back.write(1, readme=readme("One", "2nd"))
    back.settle()
    assert len(back.provider.paid) == 1
    back.assert_current()
    back.store.spaces.drop(new.space.name)
    assert [one.name for one in back.store.spaces.with_passages()] == [back.space.name]


def test_a_call_has_no_more_texts_than_a_batch_may_have_rows(make_world: Any) -> None:
    world = make_world(batch_size=5)
    for key in range(3):
        world.write(key, full_name=f"a/{key}", readme=readme(*(f"{key} {n}" for n in range(6))))
    world.settle()
    sizes = [len(call) for call in world.provider.asked]
    assert (sum(sizes), max(sizes)) == (21, 5)


def found(world: World, query: str) -> Sequence[Hit]:
    """A search whose model embeds a query as it does a text."""

    class Queries:
        def embed(self, query: str) -> Any:
            return vector_for(query, DIMENSIONS)

    search = Search(world.store.retrieval, Queries(), max_tokens=world.settings.text_tokens)
    return search.find(query, 1, mode=Mode.VECTOR)


def test_a_readme_that_is_part_of_the_text_has_no_passages(make_world: Any) -> None:
    world = make_world(text_fields=("full_name", "readme"))
    world.write(1, full_name="a/b", readme=readme("One"))
    world.settle()
    assert len(world.provider.paid) == 1
    assert world.store.passages.count() == 0
