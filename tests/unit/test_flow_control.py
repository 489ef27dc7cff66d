"""How many rows may be dispatched, from counts and a rate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from embed_star.coordination.in_flight import RunCounts
from embed_star.models import Lane
from embed_star.produce.flow_control import FlowLimits

LIMITS = FlowLimits(
    batch_rows=100,
    batch_tokens=10_000,
    text_tokens=1_000,
    chord_batches=4,
    max_in_flight_rows=5_000,
    window_s=10.0,
)


def counts(in_flight: int = 0, queued: int = 0) -> RunCounts:
    return RunCounts(in_flight, queued, 0, None)


@pytest.mark.parametrize(
    ("in_flight", "queued", "rate_rows_s", "backfill"),
    [
        pytest.param(0, 0, 0.0, 800, id="an idle fleet gets two runs"),
        pytest.param(0, 0, 200.0, 2_000, id="a fast one what it finishes in the window"),
        pytest.param(1_500, 1_500, 200.0, 500, id="less what waits in the queue"),
        pytest.param(1_500, 0, 200.0, 2_000, id="but not less what workers have begun"),
        pytest.param(4_900, 0, 200.0, 100, id="up to the limit of rows in flight"),
        pytest.param(5_300, 0, 200.0, -300, id="which fresh rows may have passed"),
    ],
)
def test_fresh_rows_have_room_for_one_run_more(
    in_flight: int, queued: int, rate_rows_s: float, backfill: int
) -> None:
    now = counts(in_flight, queued)
    assert LIMITS.room(now, rate_rows_s, Lane.BACKFILL) == backfill
    assert LIMITS.room(now, rate_rows_s, Lane.FRESH) == backfill + 400


def test_rows_that_the_rate_limit_holds_back_are_not_dispatched() -> None:
    limited = replace(LIMITS, limit_rows_s=20.0)
    assert limited.room(counts(), 200.0, Lane.BACKFILL) == 200


def test_a_batch_has_room_under_any_rate_limit() -> None:
    limited = replace(LIMITS, limit_rows_s=0.1)
    assert limited.run_rows == 100
    assert limited.room(counts(), 0.0, Lane.BACKFILL) == 200
    assert limited.room(counts(), 0.0, Lane.FRESH) == 300


@pytest.mark.parametrize(
    ("limit_rows_s", "run_rows"), [(math.inf, 400), (400.0, 400), (399.0, 300), (20.0, 100)]
)
def test_the_rate_limit_lets_a_whole_run_through_in_a_second(
    limit_rows_s: float, run_rows: int
) -> None:
    assert replace(LIMITS, limit_rows_s=limit_rows_s).run_rows == run_rows
