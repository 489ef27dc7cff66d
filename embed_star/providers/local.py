"""A small model inside this process, whose weights come with a package. No key, no network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embed_star.errors import ConfigError, InputRejected
from embed_star.providers.base import Embeddings
from embed_star.providers.catalogue import PROVIDERS, prefixes
from embed_star.providers.roles import Role

if TYPE_CHECKING:
    from embed_star.providers.in_process import Encode
    from embed_star.settings import Settings

FACTS = PROVIDERS["local"]

_MODULES = {"all-minilm-l6-v2-int8": "minilm", "wordllama-l2-supercat": "wordllama"}
"""Model → its module in `in_process`."""


def local(settings: Settings) -> Local:
    """The model that EMBEDDING_MODEL and EMBEDDING_DIMENSIONS name, if a package has it."""
    return Local(settings.model, settings.dimensions)


class Local:
    """A `Provider` that computes here. The model is loaded by the first call (0.5 s).

    It needs no deadline: the work is bounded by the length of the texts. There is no other model
    in place of one that is missing or damaged: vectors of two models do not mix.
    """

    def __init__(self, model: str = FACTS.default_model, dimensions: int = 0) -> None:
        """0 dimensions: the model's own. Raise ConfigError for a model or length that is not
        there, and without its packages."""
        if model not in _MODULES:
            choice = " or ".join(_MODULES)
            raise ConfigError(f"EMBEDDING_MODEL must be {choice} with EMBEDDING_PROVIDER=local")
        known = FACTS.models[model]
        lengths = (*known.shorter, known.dimensions)
        if dimensions not in (0, *lengths):
            choice = f"one of {', '.join(map(str, lengths))}" if known.shorter else str(lengths[0])
            raise ConfigError(f"EMBEDDING_DIMENSIONS must be {choice} with {model}")
        self.name = "local"
        self.model = model
        self.dimensions = dimensions or known.dimensions
        self._module = import_module(f"embed_star.providers.in_process.{_MODULES[model]}")
        missing = [one for one in self._module.PACKAGES if find_spec(one) is None]
        if missing:
            raise ConfigError(
                f"{model} needs {', '.join(missing)}: pip install 'embed-star[local]', "
                "or another EMBEDDING_PROVIDER"
            )
        self._before = prefixes(model)
        self._loading = threading.Lock()
        self._encode: Encode | None = None

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """See `Provider.embed`. A text in which the model knows nothing has the zero vector."""
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise InputRejected("a text holds a lone surrogate, which is no character") from None
        return Embeddings(self._loaded()([self._before[role] + text for text in texts]))

    def abort(self) -> None:
        """Do nothing: a call takes milliseconds."""

    def close(self) -> None:
        """Free the model's memory; a later call loads it again."""
        self._encode = None

    def _loaded(self) -> Encode:
        with self._loading:
            if self._encode is None:
                self._encode = self._module.load(self.dimensions)
            return self._encode
