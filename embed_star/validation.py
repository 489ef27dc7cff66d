"""What a vector must be before anything keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REASONS = ("not_finite", "magnitude", "zeros", "constant")
"""Why a vector is refused; see `Validator.judge`."""


@dataclass(frozen=True, slots=True)
class Validator:
    """The limits; `judge` applies them."""

    magnitude_min: float = 0.1
    magnitude_max: float = 10.0
    zero_ratio_max: float = 0.5

    def judge(self, vectors: NDArray[np.float32]) -> list[str]:
        """For each row of `vectors` (shape (rows, dimensions)): "" or why it is refused.

        Reasons: `not_finite` (NaN or infinity), `magnitude` (Euclidean length outside the
        limits), `zeros` (too large a share of zeros), `constant` (all values the same).
        """
        finite = np.isfinite(vectors).all(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            length = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
            constant = (vectors == vectors[:, :1]).all(axis=1) & (vectors.shape[1] > 1)
            zeros = (vectors == 0).mean(axis=1)
        reasons = np.full(len(vectors), "", dtype=object)
        # The most telling reason is written last.
        reasons[(length < self.magnitude_min) | (length > self.magnitude_max)] = "magnitude"
        reasons[zeros > self.zero_ratio_max] = "zeros"
        reasons[constant] = "constant"
        reasons[~finite] = "not_finite"
        return [str(reason) for reason in reasons]
