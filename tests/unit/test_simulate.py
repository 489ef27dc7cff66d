"""The model of a fleet: exact where the answer is known, within bounds elsewhere."""

from __future__ import annotations

import pytest

from bench.simulate import Cost, Part, fitted, predict


def test_one_call_waits_for_nobody() -> None:
    parts = [Part("worker", 0.02), Part("database", 0.03)]
    found = predict(parts, calls=1, batch_rows=50, provider_s=0.25)
    assert found.rows_s == pytest.approx(50 / 0.3)


def test_two_equal_queues_have_the_known_rate() -> None:
    # Balanced network: N / (D (N + K - 1)) batches a second, with K parts and no delay.
    parts = [Part("one", 0.1), Part("two", 0.1), Part("three", 0.1)]
    for calls in (1, 2, 7, 40):
        found = predict(parts, calls=calls, batch_rows=1, provider_s=0.0)
        assert found.rows_s == pytest.approx(calls / (0.1 * (calls + 2)))


@pytest.mark.parametrize("calls", [1, 8, 64, 2_000])
@pytest.mark.parametrize("processors", [1.0, 4.0, 32.0])
def test_the_rate_is_below_what_calls_and_the_fullest_part_allow(
    calls: int, processors: float
) -> None:
    parts = [Part("database", 0.05, processors), Part("producer", 0.01)]
    found = predict(parts, calls=calls, batch_rows=10, provider_s=0.3)
    batches_s = found.rows_s / 10
    assert batches_s <= calls / 0.36 + 1e-9
    assert all(0 < share <= 1 + 1e-9 for share in found.used.values())
    assert found.used["producer"] == pytest.approx(batches_s * 0.01)


def test_many_calls_fill_the_dearest_part() -> None:
    parts = [Part("database", 0.05, 2.0), Part("producer", 0.01), Part("redis", 0.002)]
    found = predict(parts, calls=1_000, batch_rows=50, provider_s=0.3)
    assert found.rows_s == pytest.approx(50 * 2 / 0.05, rel=0.01)
    assert found.fullest == ["database", "producer", "redis"]


def test_a_cost_explains_both_measurements() -> None:
    cost = fitted((10, 0.002), (200, 0.001))
    assert cost.of(10) == pytest.approx(10 * 0.002)
    assert cost.of(200) == pytest.approx(200 * 0.001)
    assert fitted((10, 0.001), (200, 0.002)) == Cost(0.002, 0.0)
