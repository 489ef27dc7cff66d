"""Where the provider is called: so many at once, and behind its circuit breaker.

Also where it is found out whose fault a failed call was, the provider's or a text's: the
provider is asked for a text of our own before anybody is blamed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import structlog

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputSuspected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderPaused,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.grace import Grace
from embed_star.guards.breaker import Admission, Breaker
from embed_star.providers.base import Provider, Vectors

log = structlog.get_logger(__name__)

PROBE_TEXT = "embed_star"
"""What a paused provider is tried with: no row's text, so that a row which makes it fail
does not keep it paused for all the others by being first in the queue each time. Asked
after a call that failed, it tells a text's fault from the provider's."""

PROBE_WAITS_S = (0.0, 0.5, 2.0, 5.0)
"""After a failed call, the pauses before each time that it is asked: what a text has made
to crash needs a moment to come back."""

PATIENCE_S = 10.0
"""After so long it is not asked once more: it may take its whole time-out each time."""

ALONE_MIN, ALONE_MAX = 2, 8
"""Failures of a text alone, an answer to our own after each: fewer never blame it, so
many always do. A provider that fails at random does so eight times over with a chance of
0.25 ** 8 = 0.000015 at the worst, when every other call fails."""

CHANCE = 1e-5
"""In between, how likely the failures may be to be the provider's, by how often it fails
otherwise, and the text still be blamed."""


class Calls:
    """The calls of one process to its provider. Thread-safe."""

    def __init__(
        self,
        provider: Provider,
        breaker: Breaker,
        grace: Grace,
        *,
        dimensions: int,
        at_once: int,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._provider = provider
        self._dimensions = dimensions
        self._breaker = breaker
        self._sleep = sleep or grace.wait
        self._grace = grace
        # There are more threads than calls: while some wait for the provider, the others
        # load the next rows and write the last.
        self._at_once = threading.BoundedSemaphore(at_once)

    def embed(
        self, texts: Sequence[str], before_each: Callable[[], None] = lambda: None
    ) -> Vectors:
        """The vectors of `texts`, shape (texts, dimensions), by one call.

        When the provider was paused and may be tried, it first has to pass its probes.
        `before_each` is called before each call and each probe. Raises ProviderPaused
        when nobody may call, be it since this call failed; InputSuspected when the
        provider failed and then answered our own text, which is not held against it;
        ShuttingDown when the process ends before the call begins or in the middle of it;
        else what the provider raises. To be called within a `slot`.
        """
        while True:
            self._grace.check()
            before_each()
            admission = self._breaker.admit()
            if not admission.allowed:
                raise ProviderPaused("the provider is paused", admission.retry_in_s)
            if admission.probe:
                self._probe(admission)
                continue
            try:
                return self._ask(admission, texts)
            except InputRejected:
                self._breaker.abandon(admission)
                raise
            except _Failed as failed:
                error = failed.error
            self._find_whose_fault(admission, error, before_each)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One of the places for a call, waited for; raises ShuttingDown when the process ends.

        To be left when what was paid for is kept: a process that is killed then loses no
        more than so many calls' worth.
        """
        self._grace.acquire(self._at_once)
        try:
            yield
        finally:
            self._at_once.release()

    def is_beyond_chance(self, failures: int) -> bool:
        """Whether so many suspicions of a text alone, in a row, show that it is at fault."""
        seen = self._breaker.state()
        share = (seen.failed_requests + 1) / (seen.requests + 2)  # none yet: one in two
        return failures >= ALONE_MAX or (failures >= ALONE_MIN and share**failures < CHANCE)

    def _find_whose_fault(
        self, admission: Admission, error: EmbedStarError, before_each: Callable[[], None]
    ) -> NoReturn:
        """The provider's, if it does not answer our own text either."""
        give_up = time.monotonic() + PATIENCE_S
        for wait_s in PROBE_WAITS_S:
            if time.monotonic() > give_up:
                break
            try:
                self._sleep(wait_s)
                before_each()
            except BaseException:
                self._breaker.abandon(admission)
                raise
            probe = self._breaker.admit()
            if not probe.allowed:
                break
            try:
                self._probe(probe)
            except (ProviderUnavailable, ProviderProtocolError, InputRejected) as failed:
                if not isinstance(failed, ProviderThrottled):
                    continue
                self._breaker.abandon(admission)
                raise
            except BaseException:
                self._breaker.abandon(admission)  # it is paused, and has been told why
                raise
            self._breaker.abandon(admission)
            garbled = isinstance(error, ProviderProtocolError)
            reason = "garbles_answer" if garbled else "crashes_provider"
            raise InputSuspected(str(error), reason) from error
        self._blame(admission, error)

    def _probe(self, admission: Admission) -> None:
        """Ask for our own text, with which nothing is wrong: the provider answers for it."""
        try:
            self._ask(admission, [PROBE_TEXT])
        except _Failed as failed:
            self._blame(admission, failed.error)
        except InputRejected as error:
            self._blame(admission, error)

    def _ask(self, admission: Admission, texts: Sequence[str]) -> Vectors:
        """One call. The breaker is told, unless it raises _Failed or InputRejected."""
        try:
            vectors = self._provider.embed(texts).vectors
            self._check_shape(vectors, len(texts))
        except (ProviderAuthError, ProviderConfigError) as error:
            self._blame(admission, error, for_certain=True)
        except ProviderThrottled:
            self._breaker.abandon(admission)
            raise
        except (ProviderUnavailable, ProviderProtocolError) as error:
            raise _Failed(error) from error
        except InputRejected:
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


class _Failed(Exception):
    """A call failed, and it is open whose fault that is."""

    def __init__(self, error: EmbedStarError) -> None:
        super().__init__(str(error))
        self.error = error
