"""A provider that tells of each call: how long it took, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from embed_star.errors import (
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
    ShuttingDown,
)
from embed_star.events import Emit, ProviderCalled
from embed_star.providers.base import Embeddings, Provider

OK = "ok"
BUG = "bug"
THROTTLED = "throttled"

_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (ProviderThrottled, THROTTLED),  # before what it is a kind of
    (ProviderUnavailable, "unavailable"),
    (ProviderAuthError, "auth"),
    (ProviderConfigError, "config"),
    (ProviderProtocolError, "protocol"),
    (InputRejected, "rejected"),
    (ShuttingDown, "cut"),
)
FAULTS = (*(name for _, name in _FAULTS), BUG)
"""What a call that did not go well is told as. `bug`: an error that no provider may raise."""


class InstrumentedProvider:
    """A `Provider` over another one, which changes nothing."""

    def __init__(
        self, provider: Provider, emit: Emit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = provider.name
        self.model = provider.model
        self.dimensions = provider.dimensions
        self._provider = provider
        self._emit = emit
        self._clock = clock

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Provider.embed`."""
        started = self._clock()
        try:
            answer = self._provider.embed(texts)
        except Exception as error:
            took_s = self._clock() - started
            self._emit(ProviderCalled(fault_of(error), len(texts), took_s))
            raise
        took_s = self._clock() - started
        self._emit(ProviderCalled(OK, len(texts), took_s, answer.tokens))
        return answer

    def abort(self) -> None:
        """See `Provider.abort`."""
        self._provider.abort()

    def close(self) -> None:
        """See `Provider.close`."""
        self._provider.close()


def fault_of(error: Exception) -> str:
    """One of `FAULTS`."""
    return next((name for kind, name in _FAULTS if isinstance(error, kind)), BUG)
