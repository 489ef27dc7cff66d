"""Checks each vector before it is cached or stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REASONS = ("not_finite", "magnitude", "zeros", "constant")
"""Why a vector is refused; see `Validator.judge`."""

MAGNITUDE_MIN, MAGNITUDE_MAX = 0.1, 10.0
"""Limits of the Euclidean length of a vector that is kept as it is. A model that normalises
answers 1. A length ten times as large or as small is a fault, or its server does not normalise."""

ZERO_RATIO_MAX = 0.5
"""Largest share of zeros in a vector: an embedding is dense, so more zeros are a fault."""

UNIT_WITHIN = 0.01
"""How far the length of a normalised vector may be from 1. Rounding to float16 makes it 0.001."""

DIRECTION_MIN = 1e-6
"""Shortest vector that has a meaningful direction: numbers around 1 are off by 1e-7 in float32."""


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean length of each row of `vectors`, computed without overflow."""
    import numpy as np  # here, as the names of the reasons are needed everywhere

    with np.errstate(over="ignore", invalid="ignore"):
        squares: NDArray[np.float64] = np.square(vectors, dtype=np.float64).sum(axis=1)
        return np.sqrt(squares)


def is_unit(vector: NDArray[np.float32]) -> bool:
    """Whether `vector`, shape (dimensions,), has length 1, as a normalised one has."""
    return bool(abs(lengths(vector[None])[0] - 1.0) <= UNIT_WITHIN)


def has_direction(vector: NDArray[np.float32]) -> bool:
    """Whether a finite `vector` is long enough to be normalised."""
    return bool(lengths(vector[None])[0] >= DIRECTION_MIN)


def normalised(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """`vector` with length 1. It must have a direction."""
    import numpy as np

    unit: NDArray[np.float32] = (vector / lengths(vector[None])[0]).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class Validator:
    """The limits; `judge` applies them."""

    magnitude_min: float = MAGNITUDE_MIN
    magnitude_max: float = MAGNITUDE_MAX
    zero_ratio_max: float = ZERO_RATIO_MAX

    def judge(self, vectors: NDArray[np.float32]) -> list[str]:
        """For each row of `vectors` (shape (rows, dimensions)): "" or why it is refused.

        Reasons: `not_finite` (NaN or infinity), `magnitude` (Euclidean length outside the
        limits), `zeros` (too large a share of zeros), `constant` (all values the same).
        """
        import numpy as np

        finite = np.isfinite(vectors).all(axis=1)
        length = lengths(vectors)
        with np.errstate(over="ignore", invalid="ignore"):
            constant = (vectors == vectors[:, :1]).all(axis=1) & (vectors.shape[1] > 1)
            zeros = (vectors == 0).mean(axis=1)
        reasons = np.full(len(vectors), "", dtype=object)
        # The most telling reason is written last.
        reasons[(length < self.magnitude_min) | (length > self.magnitude_max)] = "magnitude"
        reasons[zeros > self.zero_ratio_max] = "zeros"
        reasons[constant] = "constant"
        reasons[~finite] = "not_finite"
        return [str(reason) for reason in reasons]
