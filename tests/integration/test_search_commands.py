"""`embed-star get`, `similar` and `duplicates` as people run them."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.command_line import embed_star
from tests.support.lab import example_readme
from tests.support.world import World

ROWS = {
    "celery/celery": ("Distributed task queue", "Python", 25_000),
    "fork/celery": ("Distributed task queue", "Python", 3),
    "rq/rq": ("Simple job queues", "Python", 10_000),
    "redis/redis": ("In-memory data store", "C", 66_000),
}


@pytest.fixture
def filled(world: World) -> World:
    for name, (description, language, stars) in ROWS.items():
        world.write(
            name,
            full_name=name,
            description=description,
            language=language,
            stargazers_count=stars,
            topics=["queue"],
            pushed_at="2026-07-14T19:25:58Z" if stars > 3 else "2019-01-01T00:00:00Z",
            archived=stars == 3,
        )
    world.settle()
    return world


def test_get_shows_the_row_and_its_embedding(filled: World) -> None:
    filled.write("new/thing", full_name="new/thing")
    env = filled.environment
    shown = embed_star("get", "Celery/Celery", env=env).assert_worked()
    for words in ("celery/celery", "Distributed task queue", "25,000", "queue", " UTC"):
        assert words in shown
    assert "pending" in embed_star("get", "new/thing", env=env).assert_worked()
    found = json.loads(embed_star("get", "celery/celery", "--json", env=env).assert_worked())
    assert found["embedding"]["state"] == "embedded"
    assert found["embedding"]["embedded_at"]
    assert found["repo"]["full_name"] == "celery/celery"


def test_get_and_status_say_how_many_passages_there_are(filled: World) -> None:
    env = filled.environment
    assert "passages" not in embed_star("get", "rq/rq", env=env).assert_worked()
    assert "passages" not in embed_star("status", env=env).assert_worked()
    filled.write("rq/rq", readme=example_readme("one", "two", "three"))
    filled.write("redis/redis", readme=example_readme("one"))
    filled.settle()
    shown = embed_star("get", "rq/rq", env=env).assert_worked()
    assert re.search(r"^passages +3, of its README", shown, re.MULTILINE)
    found = json.loads(embed_star("get", "rq/rq", "--json", env=env).assert_worked())
    assert found["embedding"]["passages"] == 3
    found = json.loads(embed_star("get", "celery/celery", "--json", env=env).assert_worked())
    assert found["embedding"]["passages"] == 0
    shown = embed_star("status", env=env).assert_worked()
    assert re.search(r"^passages +4, of READMEs", shown, re.MULTILINE)
    assert json.loads(embed_star("status", "--json", env=env).assert_worked())["passages"] == 4


def test_similar_compares_the_stored_vectors(filled: World) -> None:
    env = filled.environment
    asked = ("similar", "celery/celery")
    shown = embed_star(*asked, env=env).assert_worked()
    assert "fork/celery" in shown
    assert "celery/celery" not in shown.replace("fork/celery", "")
    found = json.loads(embed_star(*asked, "--json", "-k", "2", env=env).assert_worked())
    assert len(found) == 2
    assert found[0]["score"] >= found[1]["score"]
    chosen = embed_star(*asked, "--json", "--language", "c", env=env).assert_worked()
    assert [one["repo"]["full_name"] for one in json.loads(chosen)] == ["redis/redis"]
    nothing = embed_star(*asked, "--language", "cobol", env=env).assert_worked()
    assert nothing == "no repository fits: try without the filters\n"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--owner", "RQ"), ["rq/rq"]),
        (("--topic", "queue", "--min-stars", "20000"), ["celery/celery"]),
        (("--archived",), ["fork/celery"]),
        (("--no-archived", "--language", "python"), ["celery/celery", "rq/rq"]),
        (("--pushed-since", "2026-07-14"), ["celery/celery", "rq/rq"]),
        (("--pushed-since", "2026-07-15"), []),
    ],
    ids=str,
)
def test_a_command_takes_all_filters(
    filled: World, options: tuple[str, ...], wanted: list[str]
) -> None:
    asked = embed_star("similar", "redis/redis", "--json", *options, env=filled.environment)
    found = json.loads(asked.assert_worked())
    assert sorted(one["repo"]["full_name"] for one in found) == wanted


def test_a_day_that_is_none_is_one_sentence(filled: World) -> None:
    done = embed_star("search", "x", "--pushed-since", "yesterday", env=filled.environment)
    assert done.code == 2
    assert "'yesterday' does not match the format '%Y-%m-%d'" in done.err


def test_duplicates_are_pairs_with_a_reason(filled: World) -> None:
    env = filled.environment
    filled.write("a/one", full_name="same", description="words")
    filled.write("a/two", full_name="same", description="words")
    filled.settle()
    asked = ("duplicates", "--min-score", "0.9999")
    shown = embed_star(*asked, env=env).assert_worked()
    assert "1.000" in shown
    assert "the same text" in shown
    (pair,) = json.loads(embed_star(*asked, "--json", env=env).assert_worked())
    assert pair["why"] == "same_text"
    assert sorted(repo["id"][len("repo:`") : -1] for repo in pair["repos"]) == ["a/one", "a/two"]
    none = embed_star(*asked, "--language", "C", env=env).assert_worked()
    assert none == "no two repositories are as similar as 0.9999: try a lower --min-score\n"


@pytest.mark.parametrize("command", ["get", "similar"])
def test_an_unknown_name_is_one_sentence_with_near_names(filled: World, command: str) -> None:
    env = filled.environment
    done = embed_star(command, "celery/celry", env=env)
    done.assert_one_sentence("'celery/celry'", "did you mean celery/celery or fork/celery?")
    embed_star(command, "x/\x1b[31mred", env=env).assert_one_sentence("there is no repository")
    embed_star(command, "celery", env=env).assert_one_sentence("owner/name is", "celery/celery")
