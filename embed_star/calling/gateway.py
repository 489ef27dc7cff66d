"""The way of a call to the provider, in this order: the bulkhead (so many calls at once), the
circuit breaker, the rate limit, the clock, the call.

Breaker and rate limit are the fleet's, in Redis. Without it no call is made; but what a call
has brought is never lost because its end could not be reported.

It is also found out here whose fault a failed call was, the provider's or a text's: the
provider is asked for a text of our own, the canary, before anybody is blamed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from embed_star.calling import blame
from embed_star.calling.blame import CallFailed
from embed_star.calling.breaker.breaker import Admission, Breaker
from embed_star.calling.breaker.verdicts import Verdicts
from embed_star.calling.call_outcomes import OK, fault_of
from embed_star.calling.canary import Canary
from embed_star.calling.rate_limit.rate_limiter import RateLimiter
from embed_star.calling.rate_limit.slots import Slots, Traffic
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
    TooManyTexts,
)
from embed_star.events import Emit, ProviderCalled, ignore_event
from embed_star.providers.base import Embeddings, Provider, Vectors
from embed_star.shutdown import Shutdown

log = structlog.get_logger(__name__)

PROBE_TEXT = "embed_star"
"""What a paused provider is tried with: no row's text, so that a row which makes it fail
does not keep it paused for all the others by being first in the queue each time. Asked
after a call that failed, it tells a text's fault from the provider's."""

PATIENCE_S = 10.0
"""After so long it is not probed once more: it may take its whole time-out each time."""

SINGLY_S = 3600.0
"""So long a provider that answered one vector for many texts is asked for one at a time."""


class Renewable(Protocol):
    """The claim on the rows whose texts are asked for."""

    def renew(self) -> None:
        """Make sure that the rows' locks outlast one call. Raises FenceLost if one is lost."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The numbers that a gateway goes by."""

    dimensions: int
    max_concurrency: int
    """Calls at once. There are more threads: while some wait for the provider, the others
    load the next rows and write the last."""
    throttled_pause_s: float
    """The pause after a 429 that names none."""
    estimate_tokens: Callable[[str], int]


class ProviderGateway:
    """The calls of one process to its provider. Thread-safe."""

    def __init__(
        self,
        provider: Provider,
        *,
        breaker: Breaker,
        rate_limiter: RateLimiter,
        canary: Canary,
        shutdown: Shutdown,
        limits: CallLimits,
        emit: Emit = ignore_event,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sleep` replaces the waits between probes."""
        self.canary = canary
        self._provider = provider
        self._breaker = breaker
        self._verdicts = Verdicts(breaker, provider.name)
        self._shutdown = shutdown
        self._dimensions = limits.dimensions
        self._emit = emit
        self._sleep = sleep or shutdown.wait
        self._clock = clock
        self._slots = Slots(
            rate_limiter,
            estimate_tokens=limits.estimate_tokens,
            throttled_pause_s=limits.throttled_pause_s,
            sleep=shutdown.wait,
        )
        self._bulkhead = threading.BoundedSemaphore(limits.max_concurrency)
        self._singly_until = -math.inf

    @property
    def most_texts(self) -> float:
        """How many texts a call may have, as far as the provider's answers have shown."""
        return 1 if self._clock() < self._singly_until else math.inf

    @contextmanager
    def embed(
        self, texts: Sequence[str], claim: Renewable, *, apart: bool = False
    ) -> Iterator[Vectors]:
        """The vectors of `texts`, shape (texts, dimensions), by one call: keep them in the block.

        The place in the bulkhead is held until the block ends, so a process that is killed
        loses the vectors of `max_concurrency` calls at most. `claim` is renewed before each
        call and each probe. A provider that may be tried after a pause has to pass its
        probes first; a 429 to a call that is made `apart` pauses nobody.

        Raises ProviderPaused when nobody may call, be it since this call failed;
        InputSuspected when the provider failed and then answered our own text; TooManyTexts
        when it did so with one vector for all; ShuttingDown when the process ends;
        RedisUnavailable, without a call; else what the provider raises.
        """
        with self._place():
            admission = self._admitted(claim)
            try:
                with self._verdicts.judging(admission):
                    try:
                        answer = self._call(texts, Traffic.APART if apart else Traffic.ROWS)
                    except (ProviderAuthError, ProviderConfigError) as error:
                        # A firewall in front of the provider refuses some texts so (403).
                        raise CallFailed(error) from error
                    self._check_shape(answer.vectors, len(texts))
                    self.canary.accept(answer.model, lambda: self._ask_for_model(claim))
            except InputRejected:
                self._verdicts.abandon(admission)
                raise
            except CallFailed as failed:
                self._find_whose_fault(admission, failed.error, claim)
            yield answer.vectors

    def ask_canary(self, claim: Renewable) -> None:
        """Return if the provider gives our own text a vector that can be used.

        To be asked when it refused texts, or gave them none. Raises ProviderPaused when it
        does so to ours as well, since the next call would fare no better; else as `embed`.
        """
        with self._place():
            self._probe(self._admitted(claim), for_certain=True)

    def search(self, text: str) -> Embeddings:
        """One call for a search, without the breaker: a person waits, and may try again.

        Raises what the provider raises, and ProviderThrottled when no slot is near.
        """
        with self._place():
            answer = self._call([text], Traffic.SEARCH)
            # As `embed` does, with its place in hand: else each may wait for the other's.
            self.canary.accept(answer.model, lambda: self._ask_ours(Traffic.SEARCH))
        return answer

    def abort(self) -> None:
        """Break off the calls under way: they raise ShuttingDown, as does every later one."""
        self._provider.abort()

    def is_beyond_chance(self, failures: int) -> bool:
        """Whether so many failures of a text alone, in a row, show that it is at fault.

        Raises RedisUnavailable.
        """
        return blame.is_beyond_chance(failures, self._breaker.state())

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for a call, waited for. Raises ShuttingDown."""
        self._shutdown.acquire(self._bulkhead)
        try:
            yield
        finally:
            self._bulkhead.release()

    def _admitted(self, claim: Renewable) -> Admission:
        """The breaker's leave for one call; the probes that it asks for have passed then."""
        while True:
            self._shutdown.check()
            claim.renew()
            admission = self._breaker.admit()
            if not admission.allowed:
                raise ProviderPaused("the provider is paused", admission.retry_in_s)
            if not admission.probe:
                return admission
            self._probe(admission)

    def _call(self, texts: Sequence[str], traffic: Traffic = Traffic.ROWS) -> Embeddings:
        """One call: its slot in the rate limit, its time, the provider."""
        grant = self._slots.take(texts, traffic)
        started = self._clock()
        try:
            answer = self._provider.embed(texts)
        except Exception as error:
            self._emit(ProviderCalled(fault_of(error), len(texts), self._clock() - started))
            if isinstance(error, ProviderThrottled):
                raise self._slots.throttled(error, traffic) from error
            raise
        self._emit(ProviderCalled(OK, len(texts), self._clock() - started, answer.tokens))
        self._slots.settle(grant, answer)
        return answer

    def _probe(self, admission: Admission, *, for_certain: bool = False) -> None:
        """Ask for our own text, with which nothing is wrong: the provider answers for it."""
        try:
            with self._verdicts.judging(admission):
                answer = self._call([PROBE_TEXT])
                self._check_shape(answer.vectors, 1)
                self.canary.judge(answer)
        except ProviderThrottled as error:
            error.answered = False  # to no row's text
            raise
        except CallFailed as failed:
            self._verdicts.blame(admission, failed.error)
        except InputRejected as error:
            all_refused = blame.refuses_all(self._provider.name, error)
            self._verdicts.blame(admission, all_refused, for_certain=for_certain)

    def _ask_for_model(self, claim: Renewable) -> Embeddings:
        self._shutdown.check()
        claim.renew()
        return self._ask_ours(Traffic.ROWS)

    def _ask_ours(self, traffic: Traffic) -> Embeddings:
        """An answer to our own text; its errors are no fault of other texts."""
        try:
            answer = self._call([PROBE_TEXT], traffic)
        except ProviderThrottled as error:
            error.answered = False  # to no row's text
            raise
        except InputRejected as error:
            raise blame.refuses_all(self._provider.name, error) from error
        self._check_shape(answer.vectors, 1)
        return answer

    def _find_whose_fault(
        self, admission: Admission, error: EmbedStarError, claim: Renewable
    ) -> NoReturn:
        """The provider's, if it does not answer our own text either."""
        lasts = blame.lasts(error)
        try:
            answers = self._answers_ours(1 if lasts else len(blame.PROBE_WAITS_S), claim)
        except BaseException:
            self._verdicts.abandon(admission)  # the breaker has been told why
            raise
        if not answers:
            self._verdicts.blame(admission, error, for_certain=lasts)
        self._verdicts.abandon(admission)
        if isinstance(error, ProviderProtocolError) and error.vectors == 1:
            self._singly_until = self._clock() + SINGLY_S
            log.warning("provider_takes_one_text", reason=str(error))
            raise TooManyTexts(str(error)) from error
        raise InputSuspected(str(error), blame.suspicion(error)) from error

    def _answers_ours(self, times: int, claim: Renewable) -> bool:
        """Whether the provider answers our own text, asked so many times at most."""
        give_up = time.monotonic() + PATIENCE_S
        for wait_s in blame.PROBE_WAITS_S[:times]:
            if time.monotonic() > give_up:
                break
            self._sleep(wait_s)
            claim.renew()
            probe = self._breaker.admit()
            if not probe.allowed:
                break
            try:
                self._probe(probe)
            except ProviderThrottled:
                raise
            except (ProviderUnavailable, ProviderProtocolError, ProviderConfigError):
                continue
            return True
        return False

    def _check_shape(self, vectors: Vectors, rows: int) -> None:
        wanted = (rows, self._dimensions)
        if vectors.shape != wanted:
            raise ProviderConfigError(
                f"the provider's vectors have shape {vectors.shape}, expected {wanted}: "
                "check EMBEDDING_DIMENSIONS"
            )
