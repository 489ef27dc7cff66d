"""A corpus to search in: the rows of a file, with the texts that the product makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.needs import Need
from embed_star.embed import text
from embed_star.importing import Row, read_rows
from embed_star.search import Filters
from embed_star.settings import Settings
from embed_star.store.memory.retrieval import passes

CHECKOUT = Path(__file__).resolve().parents[2]
RANKING = CHECKOUT.parent / "shared" / "data" / "ranking.jsonl"
"""3,448 real repositories, as GitHub describes them. They lie beside a checkout, not in it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows, and needs that are labelled over them."""

    name: str
    rows: Sequence[dict[str, Any]]
    texts: Sequence[str]
    needs: Sequence[Need]

    @property
    def identity(self) -> str:
        """Changes with the texts and the needs: figures of another identity do not compare."""
        told = repr([*self.texts, *((need.query, dict(need.answers)) for need in self.needs)])
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def passing(self, filters: Filters) -> NDArray[np.bool_]:
        """Which rows pass `filters`."""
        return np.array([passes(row, filters) for row in self.rows])


def read(name: str, rows: Path, needs: Sequence[Need]) -> Corpus:
    """The corpus of a file that `embed-star import` takes. Raises ValueError where a need has an
    answer that is not in it, or that its own filter shuts out."""
    settings = Settings.model_construct()
    with rows.open("rb") as stream:
        read_of_file = read_rows(stream, name=rows.name)
        found = [one.repo.fields for one in read_of_file if isinstance(one, Row)]
    texts = [
        text.render([row.get(field) for field in settings.text_fields], settings.text_max_tokens)
        for row in found
    ]
    corpus = Corpus(name, found, texts, needs)
    names = np.array([row["full_name"] for row in found])
    # Most needs have the same filters: none.
    passing = {one: set(names[corpus.passing(one)]) for one in {need.filters for need in needs}}
    for need in needs:
        lost = set(need.answers) - passing[need.filters]
        if lost:
            raise ValueError(f"{need.query!r} cannot find {', '.join(sorted(lost))} in {rows.name}")
    return corpus
