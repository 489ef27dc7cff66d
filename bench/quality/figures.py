"""Figures of a search: from the places of the right answers to means with an interval.

nDCG@10 with gains 2^grade - 1 (Järvelin and Kekäläinen, 2002); MRR@10 by the first right answer,
of whichever grade. All are between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEPTH = 10
"""How many answers of a search are looked at."""
METRICS = ("nDCG@10", "hit@1", "hit@5", "MRR@10")
_RESAMPLES = 2000
_SEED = 12


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over needs, and the interval that holds it in 95 of 100 resamples of the needs."""

    mean: float
    low: float
    high: float


def judge(found: Sequence[str], answers: Mapping[str, int]) -> tuple[float, ...]:
    """The value of each of `METRICS` for one search: its answers, best first."""
    grades = [answers.get(name, 0) for name in found[:DEPTH]]
    right = [place for place, grade in enumerate(grades, start=1) if grade]
    first = right[0] if right else math.inf
    best = _gain(sorted(answers.values(), reverse=True)[:DEPTH])
    return _gain(grades) / best, float(first == 1), float(first <= 5), 1 / first


def summed_up(values: NDArray[np.float64]) -> dict[str, Figure]:
    """Figures of an array of shape (needs, metrics). The same for the same array, always."""
    drawn = np.random.default_rng(_SEED).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975), axis=0)
    means = values.mean(axis=0)
    return {
        name: Figure(float(means[at]), float(low[at]), float(high[at]))
        for at, name in enumerate(METRICS)
    }


def _gain(grades: Sequence[int]) -> float:
    return sum((2**grade - 1) / math.log2(place + 1) for place, grade in enumerate(grades, start=1))
