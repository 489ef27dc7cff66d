"""A small model inside this process: wordllama, whose weights come with the package.

No key, no network, about 20,000 texts a second on one core, 120 MB of memory. The
vectors are averages of token vectors: words count, their order does not.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_star.errors import ConfigError, InputRejected, ProviderConfigError
from embed_star.providers.base import Embeddings, Vectors
from embed_star.providers.catalogue import PROVIDERS

if TYPE_CHECKING:
    from embed_star.settings import Settings

(_CARRIED,) = PROVIDERS["local"].models.values()  # one comes with the package
MODEL = _CARRIED.name
NATIVE_DIMENSIONS = _CARRIED.dimensions
DIMENSIONS = (*_CARRIED.shorter, NATIVE_DIMENSIONS)

PADDED_CHARS = 16_384
"""Characters of one inner batch, each text counted as long as the longest: wordllama
takes 2 KiB of memory for each padded token, so 64 texts of 8,000 tokens would take 1 GB."""


def local(settings: Settings) -> Local:
    """The model that EMBEDDING_MODEL and EMBEDDING_DIMENSIONS name, if the package has it."""
    return Local(settings.model, settings.dimensions)


class Local:
    """A `Provider` that computes here. The model is loaded by the first call (0.5 s).

    It needs no deadline: the work is bounded by the length of the texts.
    """

    def __init__(self, model: str = MODEL, dimensions: int = NATIVE_DIMENSIONS) -> None:
        """Raise ConfigError without the package, or for another model or length."""
        if model != MODEL:
            raise ConfigError(f"EMBEDDING_MODEL must be {MODEL} with EMBEDDING_PROVIDER=local")
        if dimensions not in DIMENSIONS:
            choice = ", ".join(map(str, DIMENSIONS))
            raise ConfigError(f"EMBEDDING_DIMENSIONS must be one of {choice} with {MODEL}")
        if importlib.util.find_spec("wordllama") is None:
            raise ConfigError(
                "EMBEDDING_PROVIDER=local needs a package: pip install 'embed-star[local]'"
            )
        self.name = "local"
        self.model = model
        self.dimensions = dimensions
        self._loading = threading.Lock()
        self._loaded: Any = None

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Provider.embed`. A text without any token has the zero vector."""
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise InputRejected("a text holds a lone surrogate, which is no character") from None
        model = self._model()
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for rows in _inner_batches(texts):
            vectors[rows] = model.embed([texts[row] for row in rows], batch_size=len(rows))
        return Embeddings(_normalised(vectors))

    def abort(self) -> None:
        """Do nothing: a call takes milliseconds."""

    def close(self) -> None:
        """Free the model's memory; a later call loads it again."""
        self._loaded = None

    def _model(self) -> Any:
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self.dimensions)
            return self._loaded


def _load(dimensions: int) -> Any:
    # wordllama calls logging.basicConfig when imported, which would put a handler of its
    # own and level INFO on the root logger; a root logger that has a handler is let be.
    root, guard = logging.getLogger(), logging.NullHandler()
    root.addHandler(guard)
    try:
        import wordllama

        return wordllama.WordLlama.load(
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
