"""`python -m bench fleet`: the fleet's rate by what a row costs, and which part is full first.

A closed queueing network, solved by exact mean value analysis (M. Reiser and S. Lavenberg,
"Mean-Value Analysis of Closed Multichain Queuing Networks", Journal of the ACM 27, 1980). As many
batches are under way as there are provider calls; each visits every part, and the provider, where
it waits for nobody. A part of several processors counts as one that is as many times as fast, and a
delay (A. Seidmann, P. Schweitzer and S. Shalev-Oren, 1987).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of one part."""

    row_s: float
    batch_s: float
    """On top, for each batch."""

    def of(self, batch_rows: int) -> float:
        """Seconds of a batch."""
        return self.row_s * batch_rows + self.batch_s


def fitted(few: tuple[int, float], many: tuple[int, float]) -> Cost:
    """The cost that explains two measurements, each `(rows a batch, seconds a row)`."""
    (rows, row_s), (more_rows, less_s) = few, many
    batch_s = max(0.0, (row_s - less_s) / (1 / rows - 1 / more_rows))
    return Cost(max(0.0, less_s - batch_s / more_rows), batch_s)


@dataclass(frozen=True, slots=True)
class Part:
    """What has a queue: processes, or a machine, of so many processors."""

    name: str
    batch_s: float
    processors: float = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a fleet does."""

    rows_s: float
    used: Mapping[str, float]
    """The share of each part's processors that is busy."""

    @property
    def fullest(self) -> Sequence[str]:
        """The parts, the fullest first."""
        return sorted(self.used, key=lambda name: -self.used[name])


def predict(parts: Sequence[Part], *, calls: int, batch_rows: int, provider_s: float) -> Prediction:
    """The rate of so many provider calls in flight, each of `provider_s` and `batch_rows` rows."""
    alone_s = [part.batch_s / part.processors for part in parts]
    served_s = sum(part.batch_s for part in parts)
    delay_s = provider_s + served_s - sum(alone_s)
    waiting = [0.0] * len(parts)
    batches_s = 0.0
    for number in range(1, calls + 1):
        there_s = [one * (1 + queue) for one, queue in zip(alone_s, waiting, strict=True)]
        batches_s = number / (delay_s + sum(there_s))
        waiting = [batches_s * one for one in there_s]
    used = {part.name: batches_s * one for part, one in zip(parts, alone_s, strict=True)}
    return Prediction(batches_s * batch_rows, used)
