"""What is refused of a vector, and the reason that is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.calling.validation import Validator

GOOD = [0.5, -0.5, 0.25, 0.1]


def judge(*rows: list[float], validator: Validator | None = None) -> list[str]:
    return (validator or Validator()).judge(np.array(rows, dtype=np.float32))


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        (GOOD, ""),
        ([0.5, math.nan, 0.1, 0.2], "not_finite"),
        ([math.nan] * 4, "not_finite"),
        ([0.5, math.inf, 0.1, 0.2], "not_finite"),
        ([0.5, -math.inf, 0.1, 0.2], "not_finite"),
        ([0.0] * 4, "constant"),
        ([-0.0, 0.0, -0.0, 0.0], "constant"),
        ([0.3] * 4, "constant"),
        ([1e30] * 4, "constant"),
        ([0.04, 0.04, 0.05, 0.05], "magnitude"),
        ([9.0, 9.0, 1.0, 1.0], "magnitude"),
        ([3e38, 3e38, 1.0, 1.0], "magnitude"),
        ([1e-45, 1e-45, 0.0, 0.0], "magnitude"),
        ([0.1, 0.0, 0.0, 0.0], "zeros"),
        ([1.0, 0.0, 0.0, 0.0], "zeros"),
        ([0.7, 0.7, 0.0, 0.0], ""),  # half of them are allowed
        ([0.06, 0.06, 0.06, 0.0], ""),
        ([10.0, 0.01, 0.0, 0.0], "magnitude"),
        ([7.0, 7.0, 1.0, 0.5], ""),
    ],
)
def test_a_bad_vector_is_refused_with_its_reason(vector: list[float], reason: str) -> None:
    assert judge(vector) == [reason]


def test_limits_belong_to_what_is_allowed() -> None:
    validator = Validator(1.0, 5.0, 0.25)
    assert judge([3.0, 4.0], [0.6, 0.8], [3.0, 4.1], validator=validator) == ["", "", "magnitude"]
    assert judge([0, 1, 2, 3], [0, 0, 1, 2], validator=validator) == ["", "zeros"]


def test_each_row_by_itself_and_in_order() -> None:
    assert judge(GOOD, [math.nan] * 4, GOOD, [0.3] * 4) == ["", "not_finite", "", "constant"]


def test_one_dimension_is_not_called_constant() -> None:
    assert judge([0.5], [-1.0], [0.0], [math.nan]) == ["", "", "zeros", "not_finite"]


def test_no_vectors_need_no_verdict() -> None:
    assert Validator().judge(np.empty((0, 4), dtype=np.float32)) == []


@pytest.mark.filterwarnings("error")
@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_takes_any_float_in_silence(vector: list[float]) -> None:
    (reason,) = judge(vector)
    if reason == "":
        assert all(math.isfinite(value) for value in vector)
        assert 0.1 - 1e-6 <= math.hypot(*vector) <= 10 + 1e-5
    assert (reason == "not_finite") == any(not math.isfinite(value) for value in vector)
