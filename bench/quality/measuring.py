"""Every model and way of searching over a corpus: its figures, by kind of need and over all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bench.quality import figures, ways
from bench.quality.corpus import Corpus
from bench.quality.figures import Figure
from bench.quality.needs import KINDS

ALL = "all"
"""Stands where a kind does: over all kinds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model and way over one corpus."""

    corpus: str
    model: str
    way: str
    needs: Mapping[str, int]
    """How many there are of each kind that occurs, and of all."""
    figures: Mapping[str, Mapping[str, Figure]]
    """By kind, then by metric."""

    @property
    def name(self) -> str:
        return f"{self.model}, {self.way}"


def measure(corpus: Corpus) -> Iterator[Measured]:
    """One after the other, the default model first."""
    kinds = np.array([need.kind for need in corpus.needs])
    groups = {ALL: kinds == kinds, **{kind: kinds == kind for kind in KINDS}}
    groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
    for model, provider in ways.models():
        for way, search in ways.WAYS.items():
            found = search(corpus, provider())
            judged = zip(found, corpus.needs, strict=True)
            values = np.array([figures.judge(names, need.answers) for names, need in judged])
            yield Measured(
                corpus.name,
                model,
                way,
                {name: int(chosen.sum()) for name, chosen in groups.items()},
                {name: figures.summed_up(values[chosen]) for name, chosen in groups.items()},
            )
