"""The measured pace, over a clock that moves when told."""

from __future__ import annotations

import pytest

from embed_star.produce.backlog import Throughput


@pytest.fixture
def readings() -> list[float]:
    return [0.0]


@pytest.fixture
def pace(readings: list[float]) -> Throughput:
    return Throughput(lambda: readings[0])


def test_one_reading_is_no_rate(pace: Throughput) -> None:
    assert pace.update(1000) == 0.0


def test_the_rate_is_rows_over_seconds(pace: Throughput, readings: list[float]) -> None:
    pace.update(0)
    readings[0] = 2.0
    assert pace.update(100) == 50.0


def test_a_steady_rate_is_found(pace: Throughput, readings: list[float]) -> None:
    pace.update(0)
    for second in range(1, 30):
        readings[0] = float(second)
        pace.update(200 * second)
    assert pace.rows_s == pytest.approx(200, rel=0.01)


def test_a_change_comes_through_over_a_few_seconds(pace: Throughput, readings: list[float]) -> None:
    pace.update(0)
    readings[0] = 2.0
    pace.update(200)
    readings[0] = 3.0
    slower = pace.update(200)
    assert 0 < slower < 100
    readings[0] = 13.0
    assert pace.update(200) == 0.0


def test_readings_in_quick_succession_are_gathered(pace: Throughput, readings: list[float]) -> None:
    pace.update(0)
    readings[0] = 0.1
    assert pace.update(1000) == 0.0
    readings[0] = 2.0
    assert pace.update(1000) == 500.0


def test_a_wiped_redis_begins_anew(pace: Throughput, readings: list[float]) -> None:
    pace.update(1000)
    readings[0] = 2.0
    pace.update(1200)
    readings[0] = 4.0
    assert pace.update(10) == 100.0
    readings[0] = 6.0
    assert pace.update(210) == 100.0
