"""Where the provider is called: so many at once, and behind its circuit breaker.

Also where it is found out whose fault a failed call was, the provider's or a text's: the
provider is asked for a text of our own, the canary, before anybody is blamed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import structlog

from embed_star.calling.breaker.breaker import Admission, Breaker
from embed_star.calling.canary import Canary
from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputSuspected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderError,
    ProviderPaused,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
    TooManyTexts,
)
from embed_star.providers.base import Embeddings, Provider, Vectors
from embed_star.shutdown import Shutdown

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

SINGLY_S = 3600.0
"""So long a provider that answered one vector for many texts is asked for one at a time."""

CHANCE = 1e-5
"""In between, how likely the failures may be to be the provider's, by how often it fails
otherwise, and the text still be blamed."""


class ProviderGateway:
    """The calls of one process to its provider. Thread-safe."""

    def __init__(
        self,
        provider: Provider,
        breaker: Breaker,
        grace: Shutdown,
        *,
        canary: Canary,
        dimensions: int,
        at_once: int,
        apart: Provider | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`apart` is the provider whose 429 concerns nobody else; without it, `provider`."""
        self.canary = canary
        self._provider = provider
        self._apart = apart or provider
        self._clock = clock
        self._singly_until = -math.inf
        self._dimensions = dimensions
        self._breaker = breaker
        self._sleep = sleep or grace.wait
        self._grace = grace
        # There are more threads than calls: while some wait for the provider, the others
        # load the next rows and write the last.
        self._at_once = threading.BoundedSemaphore(at_once)

    @property
    def most_texts(self) -> float:
        """How many texts a call may have, as far as the provider's answers have shown."""
        return 1 if self._clock() < self._singly_until else math.inf

    def embed(
        self,
        texts: Sequence[str],
        before_each: Callable[[], None] = lambda: None,
        *,
        apart: bool = False,
    ) -> Vectors:
        """The vectors of `texts`, shape (texts, dimensions), by one call.

        When the provider was paused and may be tried, it first has to pass its probes.
        `before_each` is called before each call and each probe. Raises ProviderPaused
        when nobody may call, be it since this call failed; InputSuspected when the
        provider failed and then answered our own text, which is not held against it;
        TooManyTexts when it did so with one vector for all; ShuttingDown when the process
        ends before the call begins or in the middle of it; else what the provider raises.
        A 429 to a call that is made `apart` pauses nobody. To be called within a `slot`.
        """
        admission = self._admitted(before_each)
        try:
            return self._ask(admission, texts, before_each, apart=apart)
        except InputRejected:
            self._breaker.abandon(admission)
            raise
        except _Failed as failed:
            self._find_whose_fault(admission, failed.error, before_each)

    def ask_canary(self, before_each: Callable[[], None] = lambda: None) -> None:
        """Return if the provider gives our own text a vector that can be used.

        To be asked when it refused texts, or gave them none. Raises ProviderPaused when
        it does so to ours as well, whoever asks next being no better off; else what
        `embed` raises. To be called within a `slot`.
        """
        self._probe(self._admitted(before_each), for_certain=True)

    def _admitted(self, before_each: Callable[[], None]) -> Admission:
        """Leave for one call, the probes that it may take first having passed."""
        while True:
            self._grace.check()
            before_each()
            admission = self._breaker.admit()
            if not admission.allowed:
                raise ProviderPaused("the provider is paused", admission.retry_in_s)
            if not admission.probe:
                return admission
            self._probe(admission)

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
        lasts = isinstance(error, ProviderAuthError | ProviderConfigError)
        for wait_s in PROBE_WAITS_S[:1] if lasts else PROBE_WAITS_S:
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
            except (ProviderUnavailable, ProviderProtocolError, ProviderConfigError) as failed:
                if not isinstance(failed, ProviderThrottled):
                    continue
                self._breaker.abandon(admission)
                raise
            except BaseException:
                self._breaker.abandon(admission)  # it is paused, and has been told why
                raise
            self._breaker.abandon(admission)
            if isinstance(error, ProviderProtocolError) and error.vectors == 1:
                self._singly_until = self._clock() + SINGLY_S
                log.warning("provider_takes_one_text", reason=str(error))
                raise TooManyTexts(str(error)) from error
            raise InputSuspected(str(error), _suspicion(error)) from error
        self._blame(admission, error, for_certain=lasts)

    def _probe(self, admission: Admission, *, for_certain: bool = False) -> None:
        """Ask for our own text, with which nothing is wrong: the provider answers for it."""
        try:
            self._ask(admission, [PROBE_TEXT])
        except ProviderThrottled as error:
            error.answered = False  # to no row's text
            raise
        except _Failed as failed:
            self._blame(admission, failed.error)
        except InputRejected as error:
            self._blame(admission, self._refuses_all(error), for_certain=for_certain)

    def _ask(
        self,
        admission: Admission,
        texts: Sequence[str],
        before_each: Callable[[], None] | None = None,
        *,
        apart: bool = False,
    ) -> Vectors:
        """One call, of our own text without `before_each`.

        The breaker is told, unless it raises _Failed or InputRejected.
        """
        provider = self._apart if apart else self._provider
        try:
            answer = self._answer(provider, texts, ours=before_each is None)
            self._check_shape(answer.vectors, len(texts))
            if before_each is None:
                self.canary.judge(answer)
            else:
                self.canary.accept(answer.model, lambda: self._ask_for_model(before_each))
        except _Failed:
            raise
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
        return answer.vectors

    def _answer(self, provider: Provider, texts: Sequence[str], *, ours: bool) -> Embeddings:
        """As `Provider.embed`, but what says that nobody is served may be said of a row's text.

        A firewall in front of the provider refuses some texts so (403).
        """
        try:
            return provider.embed(texts)
        except (ProviderAuthError, ProviderConfigError) as error:
            if ours:
                raise
            raise _Failed(error) from error

    def _ask_for_model(self, before_each: Callable[[], None]) -> Embeddings:
        """An answer to our own text. What prevents it is no fault of the rows' texts."""
        self._grace.check()
        before_each()
        try:
            answer = self._provider.embed([PROBE_TEXT])
        except ProviderThrottled as error:
            error.answered = False  # to no row's text
            raise
        except InputRejected as error:
            raise self._refuses_all(error) from error
        self._check_shape(answer.vectors, 1)
        return answer

    def _refuses_all(self, error: InputRejected) -> ProviderConfigError:
        said = f" ({error.said})" if error.said else ""
        return ProviderConfigError(
            f"{self._provider.name} refuses our own text as well{said}, so it is no row's fault: "
            "check the account, the model and the settings of the provider"
        )

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


def _suspicion(error: EmbedStarError) -> str:
    """The reason that a text is set aside for, if it is what the provider failed at."""
    if isinstance(error, ProviderProtocolError):
        return "garbles_answer"
    return "rejected" if isinstance(error, ProviderError) else "crashes_provider"
