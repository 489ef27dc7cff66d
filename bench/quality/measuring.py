"""Every model and way of searching over a corpus: its figures, by kind of need and over all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.quality import figures, ways
from bench.quality.corpus import Corpus
from bench.quality.figures import Figure
from bench.quality.needs import KINDS
from embed_star.embed.text import cut
from embed_star.providers.base import Embeddings, Provider
from embed_star.providers.catalogue import text_tokens
from embed_star.providers.roles import Role
from embed_star.settings import Settings

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


class Remembering:
    """A provider that computes the vector of a text once: each way asks for the same ones.

    It cuts the texts where the product cuts them for this model.
    """

    def __init__(self, provider: Provider) -> None:
        self.name, self.model, self.dimensions = provider.name, provider.model, provider.dimensions
        self.abort, self.close = provider.abort, provider.close
        self._provider = provider
        self._tokens = text_tokens(provider.model, Settings.model_construct().text_max_tokens)
        self._vectors: dict[Role, dict[str, NDArray[np.float32]]] = {role: {} for role in Role}

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """See `Provider.embed`."""
        texts = [cut(text, self._tokens) for text in texts]
        known = self._vectors[role]
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, self._provider.embed(missing, role).vectors, strict=True))
        return Embeddings(np.array([known[text] for text in texts]))


def measure(corpus: Corpus) -> Iterator[Measured]:
    """One after the other, the default model first."""
    kinds = np.array([need.kind for need in corpus.needs])
    groups = {ALL: kinds == kinds, **{kind: kinds == kind for kind in KINDS}}
    groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
    for model, make in ways.models():
        provider = Remembering(make())
        for way, search in ways.WAYS.items():
            found = search(corpus, provider)
            judged = zip(found, corpus.needs, strict=True)
            values = np.array([figures.judge(names, need.answers) for names, need in judged])
            yield Measured(
                corpus.name,
                model,
                way,
                {name: int(chosen.sum()) for name, chosen in groups.items()},
                {name: figures.summed_up(values[chosen]) for name, chosen in groups.items()},
            )
