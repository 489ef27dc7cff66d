"""Look-ups by name, held against each store."""

from __future__ import annotations

import numpy as np
import pytest

from embed_star.models import Key, key_text
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.names import flat_name
from embed_star.store.tables.retrieval import Named
from embed_star.store.tables.vectors import BulkWrite, VectorWrite
from tests.conftest import DIMENSIONS
from tests.support.scripted_answers import vector_for
from tests.support.world import World

NAMES = {
    "celery/celery": ("celery/celery", "Python", 25_000),
    "someone/celery": ("someone/celery", "Go", 3),
    2: ("zhm/celery-once", "Python", 600),
    "nvim-telescope/telescope.nvim": ("nvim-telescope/telescope.nvim", "Lua", 15_000),
    "日本/形態素": ("日本/形態素-Analyzer_2", None, 7),
    "bare": ("Straße", "C", 1),
    "list": (["odd", 3], "C", 1),
    "none": (None, "C", 1),
}


def embed(world: World, *keys: Key) -> None:
    states = world.store.repos.load(list(keys), "")
    rows = [
        VectorWrite(one.key, vector_for(key_text(one.key), DIMENSIONS), "h", one.name)
        for one in states
    ]
    assert all(world.store.locks.acquire(list(keys), "run", 60.0))
    world.store.vectors.apply(BulkWrite("run", vectors=rows, locks=list(keys)))


@pytest.fixture
def filled(world: World) -> World:
    for key, (full_name, language, stars) in NAMES.items():
        world.write(key, full_name=full_name, language=language, stargazers_count=stars)
    embed(world, *NAMES)
    return world


def keys(found: list[Named]) -> set[Key]:
    assert len({key_text(one.key) for one in found}) == len(found)
    return {one.key for one in found}


class TestNamed:
    def test_by_the_whole_name_whoever_owns_it(self, filled: World) -> None:
        found = filled.store.retrieval.named(["celery"], [])
        assert keys(found) == {"celery/celery", "someone/celery"}
        assert {one.full_name for one in found} == {"celery/celery", "someone/celery"}

    def test_by_one_of_many_names(self, filled: World) -> None:
        asked = [f"no{number}" for number in range(700)] + ["celery", "celeryonce"]
        assert keys(filled.store.retrieval.named(asked, [])) == {
            "celery/celery",
            "someone/celery",
            2,
        }

    def test_by_a_beginning_and_each_once(self, filled: World) -> None:
        named = filled.store.retrieval.named
        assert keys(named([], ["cel"])) == {"celery/celery", "someone/celery", 2}
        assert keys(named(["celery"], ["cel", "tele"])) == {
            "celery/celery",
            "someone/celery",
            2,
            "nvim-telescope/telescope.nvim",
        }
        assert named([], ["celeryonces", "d"]) == []
        assert named([], []) == []

    def test_in_any_script_without_case_and_punctuation(self, filled: World) -> None:
        named = filled.store.retrieval.named
        assert keys(named(["形態素analyzer2"], [])) == {"日本/形態素"}
        assert keys(named([], ["形態"])) == {"日本/形態素"}
        assert keys(named(["straße"], [])) == {"bare"}

    def test_with_the_cosine_of_the_query(self, filled: World) -> None:
        query = vector_for(key_text("someone/celery"), DIMENSIONS)
        found = {one.key: one.score for one in filled.store.retrieval.named(["celery"], [], query)}
        assert found["someone/celery"] == pytest.approx(1.0, abs=1e-5)
        other = vector_for(key_text("celery/celery"), DIMENSIONS)
        cosine = other @ query / np.linalg.norm(other) / np.linalg.norm(query)
        assert found["celery/celery"] == pytest.approx(float(cosine), abs=1e-5)
        assert {one.score for one in filled.store.retrieval.named(["celery"], [])} == {0.0}

    @pytest.mark.parametrize(
        ("filters", "wanted"),
        [
            (Filters(language="PYTHON"), {"celery/celery", 2}),
            (Filters(min_stars=600), {"celery/celery", 2}),
            (Filters(language="go", min_stars=1), {"someone/celery"}),
            (Filters(language="' OR true OR '"), set()),
            (NO_FILTERS, {"celery/celery", "someone/celery", 2}),
        ],
    )
    def test_that_pass_the_filters(self, filled: World, filters: Filters, wanted: set[Key]) -> None:
        assert keys(filled.store.retrieval.named(["celery"], ["cel"], filters=filters)) == wanted

    def test_that_are_there_and_have_a_vector(self, filled: World) -> None:
        filled.write("new/celery", full_name="new/celery")
        filled.delete("someone/celery")
        assert keys(filled.store.retrieval.named(["celery"], ["cel"])) == {"celery/celery", 2}

    def test_a_repo_that_is_embedded_again_has_its_new_name(self, filled: World) -> None:
        filled.write("someone/celery", full_name="someone/parsley")
        rows = [VectorWrite("someone/celery", vector_for("x", DIMENSIONS), "h2", "parsley")]
        assert all(filled.store.locks.acquire(["someone/celery"], "run", 60.0))
        write = BulkWrite("run", vectors=rows, stale=["someone/celery"], locks=["someone/celery"])
        filled.store.vectors.apply(write)
        assert keys(filled.store.retrieval.named(["celery"], [])) == {"celery/celery"}
        assert keys(filled.store.retrieval.named(["parsley"], [])) == {"someone/celery"}

    def test_a_name_that_changed_alone_is_renewed(self, filled: World) -> None:
        filled.write("someone/celery", full_name="someone/parsley")
        filled.store.vectors.refresh_names(list(NAMES))
        assert keys(filled.store.retrieval.named(["parsley"], [])) == {"someone/celery"}
        assert filled.store.vectors.refresh_names(list(NAMES)) == 0
        assert filled.store.vectors.refresh_names([]) == 0


class TestRepo:
    @pytest.mark.parametrize(
        ("full_name", "key"),
        [
            ("celery/celery", "celery/celery"),
            ("Celery/CELERY", "celery/celery"),
            ("ZHM/celery-once", 2),
            ("日本/形態素-analyzer_2", "日本/形態素"),
            ("straße", "bare"),
        ],
    )
    def test_by_its_full_name(self, filled: World, full_name: str, key: Key) -> None:
        found = filled.store.retrieval.repo(full_name)
        assert found is not None
        assert found["id"].id == key

    def test_without_a_vector_too(self, world: World) -> None:
        world.write(9, full_name="New/Thing")
        found = world.store.retrieval.repo("New/Thing")
        assert found is not None
        assert found["id"].id == 9

    @pytest.mark.parametrize("full_name", ["celery", "celery/celer", "x/celery", "' OR true", ""])
    def test_not_by_another_name(self, filled: World, full_name: str) -> None:
        assert filled.store.retrieval.repo(full_name) is None


class TestVectors:
    def test_of_one_repo(self, filled: World) -> None:
        stored = filled.store.retrieval.vector(2)
        assert stored is not None
        assert np.allclose(stored.vector, vector_for(key_text(2), DIMENSIONS), atol=1e-6)
        assert stored.vector.dtype == np.float32
        assert (stored.key, stored.text_hash, stored.cut) == (2, "h", False)
        assert stored.embedded_at is not None
        filled.delete(2)
        assert filled.store.retrieval.vector(2) is None
        assert filled.store.retrieval.vector("nobody") is None

    @pytest.mark.parametrize("rows", [1, 3, 100])
    def test_of_all_that_pass_page_by_page(self, filled: World, rows: int) -> None:
        filled.delete("list")
        found: list[Key] = []
        filters = Filters(min_stars=3)
        page = filled.store.retrieval.page(None, rows, filters)
        while page:
            assert len(page) <= rows
            found += [one.key for one in page]
            page = filled.store.retrieval.page(found[-1], rows, filters)
        wanted = {"celery/celery", "someone/celery", 2, "nvim-telescope/telescope.nvim"}
        assert set(found) == {*wanted, "日本/形態素"}
        assert len(found) == 5

    def test_repos_are_those_that_exist(self, filled: World) -> None:
        found = filled.store.retrieval.repos([2, "nobody", "bare"])
        assert {repo["id"].id for repo in found} == {2, "bare"}
        assert filled.store.retrieval.repos([]) == []


@pytest.mark.parametrize(
    ("full_name", "name"),
    [
        ("Owner/Some-Name.js", "somenamejs"),
        ("a/b/c", "c"),
        ("plain_Name", "plainname"),
        ("x/ÜBER-日本 9", "über日本9"),
        ("", ""),
        (None, ""),
        ("owner/", ""),
    ],
)
def test_the_database_has_the_same_flat_names(
    world: World, full_name: str | None, name: str
) -> None:
    assert flat_name(full_name) == name
    if not name:
        return
    world.write(1, full_name=full_name)
    embed(world, 1)
    assert keys(world.store.retrieval.named([name], [])) == {1}
