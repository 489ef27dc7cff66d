"""The contract that every embedding provider keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embed_star.providers.roles import Role

Vectors = NDArray[np.float32]
"""Shape (rows, dimensions), one row for each text, in the order of the texts."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The answer to one call."""

    vectors: Vectors
    tokens: int | None = None
    """Tokens that the provider counted for this call; None if it does not say."""
    quota_pause_s: float | None = None
    """Seconds until the quota is renewed, when this call used it up; else None."""
    model: str | None = None
    """The model's name as the answer gives it, None when it gives none."""


class Provider(Protocol):
    """One embedding model behind one endpoint. Safe to call from several threads."""

    name: str
    model: str
    dimensions: int

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """Embed `texts` (at least one, none empty) in one call, in the same `role` all of them.

        What the model wants to be told of the role, a prefix or a parameter, is added here.

        Vectors come in the order of the texts and have `dimensions` columns. Their values
        are not checked here (see `calling.validation`). Raises only ProviderError and
        ProviderUnavailable with their subclasses, and ShuttingDown after `abort`. It returns
        or raises within the total deadline that it was built with.
        """

    def abort(self) -> None:
        """Abort the running calls. They raise ShuttingDown, and so does every later call.

        For the end of a process. Any thread may call it; a second call changes nothing.
        """

    def close(self) -> None:
        """Release connections. May be called more than once."""
