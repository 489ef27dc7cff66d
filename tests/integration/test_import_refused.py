"""Rows that the database refuses: reported with their lines, and the others are written."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest

from embed_star.cli import import_pages
from embed_star.cli.import_pages import StoreSink, Summary, write_rows
from embed_star.errors import StoreAuthError
from embed_star.importing import read_rows
from embed_star.models import Lane
from tests.support.world import World

SECRET = "hush-hush 'quoted' \"and\" `more`"


def import_into(world: World, rows: Sequence[dict[str, Any]]) -> Summary:
    summary = Summary("rows.jsonl", "fresh", dry_run=False)
    stream = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    write_rows(read_rows(stream, name="rows.jsonl"), StoreSink(world.store), Lane.FRESH, summary)
    return summary


def rows_with(count: int, bad: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of which those at `bad` (from 1, as lines are) have other fields, too."""
    return [
        {"full_name": f"own/r{n}", "description": f"d{n}", "stars_now": n, **bad.get(n, {})}
        for n in range(1, count + 1)
    ]


def keys(world: World) -> set[str]:
    (found,) = world.query("SELECT VALUE id FROM repo")
    return {one.id for one in found}


def event(words: str) -> str:
    condition = "$after.stars_now > 1000000"
    return f"DEFINE EVENT mine ON repo WHEN {condition} THEN {{ THROW '{words}' }}"


REFUSALS = {
    "an ASSERT": (
        "DEFINE FIELD stars_now ON repo ASSERT $value < 1000000",
        {"stars_now": 2_000_000},
        "the field stars_now must conform to $value < 1000000",
    ),
    "an ASSERT on a text": (
        "DEFINE FIELD description ON repo ASSERT $value != NONE AND string::len($value) < 20",
        {"description": SECRET + "\nof `two` lines for field `x`, and long" * 40},
        "the field description must conform to $value != NONE AND string::len($value) < 20",
    ),
    "a type": (
        "DEFINE FIELD stars_now ON repo TYPE int",
        {"stars_now": SECRET},
        "the field stars_now must be int",
    ),
    "a unique index": (
        "DEFINE INDEX only_one ON repo FIELDS description UNIQUE",
        {"description": "d1"},
        "another row has its value in the unique index only_one",
    ),
    "an event that speaks of rights": (
        event("Not enough permissions"),
        {"stars_now": 2_000_000},
        "Not enough permissions",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_row_is_reported_with_its_line_and_the_rest_is_written(
    world: World, kind: str
) -> None:
    statement, fields, reason = REFUSALS[kind]
    world.query(statement)
    bad = {7: fields, 700: fields, 701: fields}
    rows = rows_with(1200, bad)
    summary = import_into(world, rows)
    assert (summary.read, summary.written, summary.bad) == (1200, 1197, 3)
    assert [one.line for one in summary.bad_lines] == [7, 700, 701]
    for one in summary.bad_lines:
        assert one.reason.startswith("the database refused it: "), one.reason
        assert reason in one.reason
        assert "hush" not in one.reason
    assert keys(world) == {f"own/r{n}" for n in range(1, 1201) if n not in bad}

    again = import_into(world, rows)
    assert (again.written, again.bad) == (1197, 3), "an import may be repeated"
    assert len(world.outbox()) == 1197, "and announces nothing twice"


def test_a_row_whose_event_fails_on_another_table_is_not_taken_for_written(world: World) -> None:
    """Engine 2.x answers its UPSERT with a success, and has no such row afterwards."""
    world.query(
        "DEFINE TABLE log; DEFINE FIELD n ON log TYPE int; DEFINE EVENT mine ON repo "
        "WHEN $after.stars_now > 1000000 THEN { CREATE log SET n = $after.description }"
    )
    rows = rows_with(9, {4: {"stars_now": 2_000_000, "description": SECRET}})
    summary = import_into(world, rows)
    assert (summary.written, summary.bad) == (8, 1)
    (bad,) = summary.bad_lines
    assert bad.line == 4
    assert "event" in bad.reason
    assert "hush" not in bad.reason
    assert "quoted" not in bad.reason
    assert keys(world) == {f"own/r{n}" for n in range(1, 10) if n != 4}


def test_an_event_that_speaks_of_conflicts_refuses_its_row_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try is repeated as a conflict first, so there are few rows."""
    monkeypatch.setattr(import_pages, "PAGE_ROWS", 4)
    world.query(event("this can be retried"))
    summary = import_into(world, rows_with(10, {6: {"stars_now": 2_000_000}}))
    assert (summary.written, summary.bad) == (9, 1)
    assert summary.bad_lines[0].line == 6
    assert "this can be retried" in summary.bad_lines[0].reason


def test_when_each_row_is_refused_each_is_reported(world: World) -> None:
    world.query("DEFINE FIELD stars_now ON repo ASSERT $value < 0")
    summary = import_into(world, rows_with(30, {}))
    assert (summary.written, summary.bad, len(summary.bad_lines)) == (0, 30, 20)
    assert keys(world) == set()


def test_a_page_is_bounded_by_all_that_its_rows_hold(world: World) -> None:
    """520 rows of 0.37 MB each, inside an object: beyond the server's limit in one message."""
    nested = {"readme": {"html": ["x" * 370_000]}}
    summary = import_into(world, rows_with(520, dict.fromkeys(range(1, 521), nested)))
    assert (summary.written, summary.bad) == (520, 0)
    assert len(keys(world)) == 520


def test_a_user_who_may_write_nothing_ends_the_import_at_once(world: World) -> None:
    """No row is to blame for that."""

    class Refused(StoreSink):
        calls = 0

        def upsert_repos(self, rows: Sequence[tuple[str, dict[str, Any]]], *, lane: int) -> int:
            self.calls += 1
            raise StoreAuthError("SurrealDB refused: the user may not do this")

        def check_rights(self) -> None:
            raise StoreAuthError("the database user has no right to do this")

    sink, summary = Refused(world.store), Summary("rows.jsonl", "fresh", dry_run=False)
    stream = io.BytesIO(b'{"full_name":"a/b"}\n{"full_name":"c/d"}\n')
    with pytest.raises(StoreAuthError, match="no right"):
        write_rows(read_rows(stream, name="rows"), sink, Lane.FRESH, summary)
    assert (sink.calls, summary.bad) == (1, 0)
