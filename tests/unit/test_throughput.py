"""The measured throughput, over a clock that the test sets."""

from __future__ import annotations

import pytest

from embed_star.produce.throughput import Throughput


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def throughput(clock: list[float]) -> Throughput:
    return Throughput(lambda: clock[0])


def test_one_count_gives_no_rate(throughput: Throughput) -> None:
    assert throughput.update(1000) == 0.0


def test_the_rate_is_rows_over_seconds(throughput: Throughput, clock: list[float]) -> None:
    throughput.update(0)
    clock[0] = 2.0
    assert throughput.update(100) == 50.0


def test_a_steady_rate_is_found(throughput: Throughput, clock: list[float]) -> None:
    throughput.update(0)
    for second in range(1, 30):
        clock[0] = float(second)
        throughput.update(200 * second)
    assert throughput.rows_s == pytest.approx(200, rel=0.01)


def test_follows_a_change_within_a_few_seconds(throughput: Throughput, clock: list[float]) -> None:
    throughput.update(0)
    clock[0] = 2.0
    throughput.update(200)
    clock[0] = 3.0
    slower = throughput.update(200)
    assert 0 < slower < 100
    clock[0] = 13.0
    assert throughput.update(200) == 0.0


def test_counts_in_quick_succession_make_one_rate(
    throughput: Throughput, clock: list[float]
) -> None:
    throughput.update(0)
    clock[0] = 0.1
    assert throughput.update(1000) == 0.0
    clock[0] = 2.0
    assert throughput.update(1000) == 500.0


def test_begins_again_after_redis_was_wiped(throughput: Throughput, clock: list[float]) -> None:
    throughput.update(1000)
    clock[0] = 2.0
    throughput.update(1200)
    clock[0] = 4.0
    assert throughput.update(10) == 100.0
    clock[0] = 6.0
    assert throughput.update(210) == 100.0
