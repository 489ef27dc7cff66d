"""The ways of searching that the product has, without its database: the same texts, the same
provider, the same filters, the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from bench.quality.corpus import Corpus
from bench.quality.figures import DEPTH
from embed_star.embed import text
from embed_star.providers.base import Provider
from embed_star.providers.local import FACTS, Local
from embed_star.providers.roles import Role
from embed_star.settings import Settings

Way = Callable[[Corpus, Provider], list[list[str]]]
"""Gives the full names that each need of the corpus finds, best first."""


def vector(corpus: Corpus, provider: Provider) -> list[list[str]]:
    """`embed-star search`: exact cosine between the vectors of query and row."""
    limit = Settings.model_construct().text_max_tokens
    rows = provider.embed(corpus.texts).vectors
    asked = [text.cut(need.query, limit) for need in corpus.needs]
    queries = provider.embed(asked, Role.QUERY).vectors
    names = [row["full_name"] for row in corpus.rows]
    found = []
    for need, scores in zip(corpus.needs, queries @ rows.T, strict=True):
        scores[~corpus.passing(need.filters)] = -np.inf
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        found.append([names[row] for row in best if np.isfinite(scores[row])])
    return found


WAYS: Mapping[str, Way] = {"vector": vector}


def models() -> Sequence[tuple[str, Callable[[], Provider]]]:
    """The models that need no key and no network, by name, the default first."""
    return [
        (f"{model.name}, {length} dimensions", partial(Local, model.name, length))
        for model in FACTS.models.values()
        for length in (model.dimensions, *reversed(model.shorter))
    ]
