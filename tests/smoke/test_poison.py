"""Rows that nobody can embed, among rows that anybody can: the latter must not notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.command_line import embed_star
from tests.support.lab import Lab
from tests.support.whole_stack import whole_stack

NEIGHBOURS = 40
ODD: dict[str, dict[str, Any]] = {
    "null": {"full_name": "odd/null", "description": None},
    "empty": {"full_name": "odd/empty", "description": ""},
    "long": {"full_name": "odd/long", "description": "a megabyte of words " * 52_429},
    "emoji": {"full_name": "odd/emoji", "description": "🦀🐍👩‍💻 tools 🚀"},
    "arabic": {"full_name": "odd/arabic", "description": "مكتبة لمعالجة النصوص"},
    "types": {"full_name": 17, "description": {"en": ["a", True, None]}, "topics": "one"},
    "nul": {"full_name": "odd/nul", "description": "before\0after"},
    "quotes": {"full_name": "odd/⟨quotes⟩", "description": "'; DELETE repo; -- ⟩ `"},
}
POISON: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"stargazers_count": 1}, "empty_text"),
    "blank": ({"full_name": " ", "description": "\n\t"}, "empty_text"),
    "refused": ({"full_name": "odd/refused", "description": "word-refused-7731"}, "rejected"),
    "nan": ({"full_name": "odd/nan", "description": "word-nan-7731"}, "not_finite"),
}

PAID_BY_RETRY = {"paid_again": 1, "hits": 1}
"""The text whose first vector was of no use, once people have asked for another."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with whole_stack(tmp_path_factory.mktemp("poison"), env={"BATCH_SIZE": "50"}) as (_, lab):
        lab.provider.script(poison="word-refused-7731", nan="word-nan-7731")
        lab.write({**ODD, **{key: fields for key, (fields, _) in POISON.items()}})
        lab.insert(NEIGHBOURS)
        lab.await_quiet()
        yield lab


def test_each_row_is_embedded_or_set_aside_with_its_reason(lab: Lab) -> None:
    report = lab.report()
    assert report.failed == {f'"{key}"': reason for key, (_, reason) in POISON.items()}
    assert report.embedded == NEIGHBOURS + len(ODD)
    # A batch with a bad vector in it is paid for once: only the row of that vector fails.
    report.assert_kept()


def test_a_refusal_is_found_by_halving(lab: Lab) -> None:
    refused = [entry for entry in lab.provider.ledger() if entry["status"] == 400]
    assert 1 <= len(refused) <= 7  # log2 of a batch of 50, and the first


def test_nothing_goes_round_in_circles(lab: Lab) -> None:
    calls = len(lab.provider.asked())
    walked = embed_star("reconcile", env=lab.environment).assert_worked()
    rows = NEIGHBOURS + len(ODD) + len(POISON)
    assert walked == (
        f"{rows} repos checked, 0 rows put into the backlog, 0 records of deleted repos removed\n"
    )
    # A row that is new goes through everything that was before it.
    lab.insert(1)
    lab.await_quiet()
    assert len(lab.provider.asked()) == calls + 1


def test_people_are_told(lab: Lab) -> None:
    printed = embed_star("failures", "--json", env=lab.environment).assert_worked()
    told = {row["repo"]: row["reason"] for row in map(json.loads, printed.splitlines())}
    assert told == {key: reason for key, (_, reason) in POISON.items()}
    assert "word-" not in printed
    status = json.loads(embed_star("status", "--json", env=lab.environment).assert_worked())
    assert status["failed"] == {"empty_text": 2, "rejected": 1, "not_finite": 1}
    assert status["pending"] == {"fresh": 0, "backfill": 0}


def test_of_one_row_people_are_told_what_to_do(lab: Lab) -> None:
    told = embed_star("failures", "show", "refused", env=lab.environment).assert_worked()
    assert "the provider refused its text" in told
    assert "change the row's text" in told
    assert lab.services.space.name in told
    assert "word-" not in told
    one = embed_star("failures", "show", "repo:nan", "--json", env=lab.environment)
    shown = json.loads(one.assert_worked())
    assert (shown["repo"], shown["reason"], shown["attempts"]) == ("nan", "not_finite", 1)
    only = embed_star(
        *("failures", "list", "--json", "--reason", "empty_text"), env=lab.environment
    ).assert_worked()
    assert {json.loads(line)["repo"] for line in only.splitlines()} == {"nothing", "blank"}


@pytest.mark.parametrize("arguments", [("show", "nobody"), ("retry", "nan", "nobody")])
def test_a_key_without_a_failure_is_one_sentence(lab: Lab, arguments: tuple[str, ...]) -> None:
    finished = embed_star("failures", *arguments, env=lab.environment)
    finished.assert_one_sentence("nobody", "embed-star failures")
    assert finished.code == 1
    assert lab.report().failed.keys() == {f'"{key}"' for key in POISON}


@pytest.mark.parametrize("arguments", [(), ("--all", "nan"), ("--reason", "sloth")])
def test_a_retry_of_nothing_in_particular_is_refused(lab: Lab, arguments: tuple[str, ...]) -> None:
    finished = embed_star("failures", "retry", *arguments, env=lab.environment)
    assert finished.code == 2
    assert "Traceback" not in finished.err


def test_rows_are_tried_again_when_people_say_so(lab: Lab) -> None:
    def retry(*arguments: str) -> str:
        return embed_star("failures", "retry", *arguments, env=lab.environment).assert_worked()

    calls = len(lab.provider.asked())
    assert retry("refused") == "1 row will be tried again\n"
    lab.await_quiet()
    # Alone in its batch, it is asked for again after the provider answered another text.
    assert len(lab.provider.asked()) == calls + 2
    lab.provider.script(bad_vectors={})
    assert retry("--reason", "not_finite", "--json") == '{"released": 1}\n'
    lab.await_quiet()
    assert retry("--all") == "3 rows will be tried again\n"
    lab.await_quiet()
    report = lab.report()
    assert report.failed.keys() == {'"nothing"', '"blank"', '"refused"'}
    attempts = lab.query("SELECT VALUE attempts FROM embedding_failure:refused")
    assert attempts == [[3]]
    lab.provider.script(nan="word-nan-7731")


def test_an_edit_heals(lab: Lab) -> None:
    for key in POISON:
        lab.edit(key, description=f"Something to say at last about {key}")
    lab.await_quiet()
    report = lab.report()
    assert report.failed == {}
    report.assert_kept(**PAID_BY_RETRY)


def test_and_a_good_row_can_turn_bad(lab: Lab) -> None:
    lab.edit("emoji", description="now word-refused-7731")
    lab.await_quiet()
    report = lab.report()
    assert report.failed == {'"emoji"': "rejected"}
    report.assert_kept(**PAID_BY_RETRY)
