"""The doctor's word on slow searches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from embed_star.cli import checks
from embed_star.errors import StoreUnavailable


def said(exact_s: float | Exception | None, version: tuple[int, ...] = (3, 3, 5)) -> str:
    def answer() -> float | None:
        if isinstance(exact_s, Exception):
            raise exact_s
        return exact_s

    store = SimpleNamespace(
        retrieval=SimpleNamespace(exact_s=answer), database=SimpleNamespace(version=version)
    )
    return checks._search(SimpleNamespace(store=store))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "exact_s", [None, 0.0, checks.SLOW_SEARCH_S, StoreUnavailable("the database is away")], ids=str
)
def test_nothing_where_searches_are_quick_or_the_database_is_away(
    exact_s: float | Exception | None,
) -> None:
    assert said(exact_s) == ""


def test_without_the_index_it_says_what_to_do() -> None:
    assert said(7.04) == (
        "every vector is compared, which takes about 7.0 s a search: beat has the index built once "
        "the backlog is done: is it running?"
    )
    assert "SurrealDB 3 has an index" in said(7.04, (2, 6, 1))
