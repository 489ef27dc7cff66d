"""`embed-star status` as people see it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from embed_star.cli.status import table
from embed_star.status import Report

QUIET: dict[str, Any] = {
    "space": "a_space",
    "provider": "local",
    "model": "a-model",
    "dimensions": 8,
    "embedded": 10,
    "passages": 0,
    "pending": {"fresh": 0, "backfill": 0},
    "oldest_pending_s": {"fresh": None, "backfill": None},
    "failed": {},
    "in_flight": 0,
    "done": {"embedded": 10},
    "provider_phase": "closed",
    "provider_retry_in_s": 0.0,
    "messages_set_aside": 0,
    "workers": ["worker@here"],
    "pool": {},
}


def shown(rows_s: float, **changes: Any) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table(Report(**{**QUIET, **changes}), rows_s))
    return capture.get()


@pytest.mark.parametrize(
    ("pending", "rows_s", "left"),
    [
        ({"fresh": 0, "backfill": 9000}, 50.0, "about 3 minutes, at 50.0 rows/s"),
        ({"fresh": 100, "backfill": 9000}, 1.0, "about 3 hours, at 1.0 rows/s"),
    ],
)
def test_a_backlog_has_a_time(pending: dict[str, int], rows_s: float, left: str) -> None:
    assert left in shown(rows_s, pending=pending)


@pytest.mark.parametrize(("pending", "rows_s"), [(0, 50.0), (9000, 0.0)])
def test_none_is_told_where_nothing_is_pending_or_nothing_moves(
    pending: int, rows_s: float
) -> None:
    assert "time left" not in shown(rows_s, pending={"fresh": 0, "backfill": pending})


def test_passages_have_a_line_where_rows_have_readmes() -> None:
    assert "passages" not in shown(0.0)
    assert "passages 1,234, of READMEs" in " ".join(shown(0.0, passages=1234).split())
