"""Where the provider is called: so many at once, and behind its circuit breaker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderPaused,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.guards.breaker import Admission, Breaker
from embed_star.providers.base import Provider, Vectors

log = structlog.get_logger(__name__)

PROBE_TEXT = "embed_star"
"""What a paused provider is tried with: no row's text, so that a row which makes it fail
does not keep it paused for all the others by being first in the queue each time."""


class Calls:
    """The calls of one process to its provider. Thread-safe."""

    def __init__(
        self, provider: Provider, breaker: Breaker, *, dimensions: int, at_once: int
    ) -> None:
        self._provider = provider
        self._dimensions = dimensions
        self._breaker = breaker
        # There are more threads than calls: while some wait for the provider, the others
        # load the next rows and write the last.
        self._at_once = threading.BoundedSemaphore(at_once)

    def embed(
        self, texts: Sequence[str], before_each: Callable[[], None] = lambda: None
    ) -> Vectors:
        """The vectors of `texts`, shape (texts, dimensions), by one call.

        When the provider was paused and may be tried, it first has to pass its probes.
        `before_each` is called before each call and each probe. Raises ProviderPaused
        when nobody may call, be it since this call failed; else what the provider raises.
        """
        with self._at_once:
            while True:
                before_each()
                admission = self._breaker.admit()
                if not admission.allowed:
                    raise ProviderPaused("the provider is paused", admission.retry_in_s)
                if not admission.probe:
                    return self._call(admission, texts)
                self._call(admission, [PROBE_TEXT])

    def _call(self, admission: Admission, texts: Sequence[str]) -> Vectors:
        try:
            vectors = self._provider.embed(texts).vectors
            self._check_shape(vectors, len(texts))
        except (ProviderAuthError, ProviderConfigError) as error:
            self._blame(admission, error, for_certain=True)
        except ProviderThrottled:
            self._breaker.abandon(admission)
            raise
        except (ProviderUnavailable, ProviderProtocolError) as error:
            self._blame(admission, error)
        except InputRejected as error:
            if admission.probe:  # there is nothing wrong with our own text
                self._blame(admission, error)
            self._breaker.abandon(admission)
            raise
        except BaseException:
            self._breaker.abandon(admission)
            raise
        if self._breaker.succeeded(admission):
            log.info("provider_resumed", provider=self._provider.name)
        return vectors

    def _blame(
        self, admission: Admission, error: EmbedStarError, *, for_certain: bool = False
    ) -> NoReturn:
        """The provider is at fault: tell the breaker, and whoever called."""
        opened = self._breaker.failed(admission, for_certain=for_certain)
        wait_s = self._breaker.state().retry_in_s
        if opened:
            log.error("provider_paused", reason=str(error), retry_in_s=wait_s)
        if wait_s or admission.probe:
            raise ProviderPaused(str(error), wait_s) from error
        raise error

    def _check_shape(self, vectors: Vectors, rows: int) -> None:
        wanted = (rows, self._dimensions)
        if vectors.shape != wanted:
            raise ProviderConfigError(
                f"the provider's vectors have shape {vectors.shape}, expected {wanted}: "
                "check EMBEDDING_DIMENSIONS"
            )
