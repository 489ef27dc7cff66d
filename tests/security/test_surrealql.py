"""SurrealQL in search filters, topics and files to import stays data, on both SurrealDBs.

(Ids, names, tokens and reasons: tests/integration/test_injection.py. That no query is built
from data: tests/unit/test_imports.py.)
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embed_star.cli.import_pages import StoreSink, Summary, write_rows
from embed_star.errors import StoreError
from embed_star.importing import read_rows
from embed_star.models import Lane
from embed_star.search import Filters
from tests.conftest import DIMENSIONS
from tests.integration.test_injection import HOSTILE, hostile
from tests.support.scripted_answers import vector_for
from tests.support.world import World

few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def schema(world: World) -> Any:
    """All that SurrealQL could have changed."""
    (info,) = world.query("INFO FOR DB")
    return info["tables"].keys(), info["functions"], info["params"], info["users"]


@few
@given(hostile)
@example("python' OR true --")
@example("python; REMOVE TABLE repo")
@example("$language")
def test_a_language_to_filter_by(world: World, language: str) -> None:
    before = schema(world)
    world.write("other", full_name="other", language="python")
    world.write("mine", full_name="mine", language=language)
    world.settle()
    retrieval = world.store.retrieval
    hits = retrieval.nearest(vector_for("x", DIMENSIONS), 5, Filters(language=language))
    wanted = {"mine"} | ({"other"} if language.lower() == "python" else set())
    assert {hit.repo["id"].id for hit in hits} == wanted
    assert schema(world) == before


@few
@given(st.lists(st.tuples(hostile, st.lists(hostile, max_size=3)), min_size=1, max_size=5))
@example([(words, [words]) for words in HOSTILE])
def test_a_file_to_import(world: World, rows: list[tuple[str, list[str]]]) -> None:
    before = schema(world)
    world.write("canary", full_name="canary")
    lines = [
        {
            "full_name": f"owner/name{number}",
            "description": description,
            "topics": topics,
            "language": description,
            description or "x": "a field of that name",
        }
        for number, (description, topics) in enumerate(rows)
    ] + [{"full_name": words, "description": words} for words, _ in rows]
    stream = io.BytesIO("\n".join(map(json.dumps, lines)).encode())
    summary = Summary("rows.jsonl", "fresh", dry_run=False)
    write_rows(read_rows(stream, name="rows.jsonl"), StoreSink(world.store), Lane.FRESH, summary)
    assert summary.read + summary.bad >= len(rows)
    (found,) = world.query("SELECT * FROM repo")
    stored = {row["full_name"]: row for row in found}
    for number, (description, topics) in enumerate(rows):
        row = stored[f"owner/name{number}"]
        assert (row.get("description") or "") == description
        assert list(row.get("topics") or []) == topics
    assert "canary" in stored
    assert schema(world) == before
    world.settle()
    world.assert_current()


def test_a_nul_is_answered_or_refused(world: World) -> None:
    """The embedded engine takes none; the connection is of use afterwards."""
    world.write("x", full_name="x", language="go")
    world.settle()
    retrieval = world.store.retrieval
    with suppress(StoreError):
        assert retrieval.nearest(vector_for("x", DIMENSIONS), 5, Filters(language="go\0")) == []
    assert len(retrieval.nearest(vector_for("x", DIMENSIONS), 5, Filters(language="GO"))) == 1
