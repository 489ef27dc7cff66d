"""wordllama: averages of token vectors, so words count and their order does not.

About 6,000 texts a second on one core, 50 MB of memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed_star.errors import ProviderConfigError
from embed_star.providers.base import Vectors

if TYPE_CHECKING:
    from embed_star.providers.in_process import Encode

PACKAGES = ("wordllama",)

NATIVE_DIMENSIONS = 256
"""Columns of the weights in the package. wordllama knows more, but has to download them."""

PADDED_CHARS = 16_384
"""Characters of one inner batch, each text counted as long as the longest: wordllama
takes 2 KiB of memory for each padded token, so 64 texts of 8,000 tokens would take 1 GB."""


def load(dimensions: int) -> Encode:
    """The model. Raises ProviderConfigError when the package is damaged."""
    # wordllama calls logging.basicConfig when imported, which would put a handler of its
    # own and level INFO on the root logger; a root logger that has a handler is let be.
    root, guard = logging.getLogger(), logging.NullHandler()
    root.addHandler(guard)
    try:
        import wordllama

        model = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent,
            trunc_dim=None if dimensions == NATIVE_DIMENSIONS else dimensions,
            disable_download=True,
        )
    except (ImportError, OSError, ValueError) as error:
        raise ProviderConfigError(
            f"wordllama cannot be loaded ({type(error).__name__}); "
            "reinstall it: pip install --force-reinstall 'embed-star[local]'"
        ) from None
    finally:
        root.removeHandler(guard)

    def encode(texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), dimensions), dtype=np.float32)
        for rows in _inner_batches(texts):
            vectors[rows] = model.embed([texts[row] for row in rows], batch_size=len(rows))
        return _normalised(vectors)

    return encode


def _inner_batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Row numbers in groups of like length, each at most `PADDED_CHARS` or one text."""
    group: list[int] = []
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        if group and (len(group) + 1) * len(texts[row]) > PADDED_CHARS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _normalised(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return normalised
