"""Calls to the provider, in this order: concurrency limit, breaker, rate limit, timing, call.

The breaker and the rate limit are shared by the fleet, in Redis. Without Redis no row's text is
sent. A failure to report the end of a call never loses the vectors of that call.

The gateway also decides whether the provider or a text caused a failure: before it blames
either, it sends the provider a text of our own, the canary.

It is over 300 lines since the order of what a call goes through is read in one place.
"""

from __future__ import annotations

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
from embed_star.calling.concurrency import Concurrency
from embed_star.calling.rate_limit.rate_limiter import RateLimiter
from embed_star.calling.rate_limit.slots import Slots, Traffic
from embed_star.calling.text_limit import TextLimit
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
from embed_star.events import ConcurrencyChanged, Emit, ProviderCalled, ignore_event
from embed_star.providers.base import Embeddings, Provider, Vectors
from embed_star.providers.roles import Role
from embed_star.shutdown import Shutdown

log = structlog.get_logger(__name__)

PROBE_TEXT = "embed_star"
"""The text of a probe. A paused provider is not probed with a row's text: a row that makes it
fail would be first in the queue each time, and keep it paused for all other rows. After a failed
call, the answer to it tells a bad text from a bad provider."""


class Renewable(Protocol):
    """The claim on the rows whose texts are sent."""

    def renew(self) -> None:
        """Make sure that the rows' locks outlast one call. Raises FenceLost if one is lost."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The limits of a gateway."""

    dimensions: int
    first_calls: int
    """Calls at once, to begin with. There are more threads: while some wait for the provider,
    others load the next rows or write finished ones."""
    most_calls: int
    """The most to which their number adapts; `first_calls` if it is fixed."""
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
        self._concurrency = Concurrency(
            limits.first_calls,
            most=limits.most_calls,
            on_change=lambda calls: emit(ConcurrencyChanged(calls)),
            clock=clock,
        )
        emit(ConcurrencyChanged(limits.first_calls))
        self._texts = TextLimit(clock)

    @property
    def most_texts(self) -> float:
        """The most texts that one call may have; less after `TooManyTexts`."""
        return self._texts.most

    @property
    def calls_allowed(self) -> int:
        """Calls that may be under way at once by now."""
        return self._concurrency.limit

    @contextmanager
    def embed(
        self, texts: Sequence[str], claim: Renewable, *, apart: bool = False
    ) -> Iterator[Vectors]:
        """The vectors of `texts`, shape (texts, dimensions), by one call: cache them in the block.

        The block holds the call's place until it ends, so a process that is killed loses the
        vectors of no more calls than it may have at once. `claim` is renewed while the call
        waits for its place, before it and before each probe. After a pause, the provider must
        pass its probes first. A 429 to a call that is made `apart` does not pause the fleet.

        Raises ProviderPaused when the breaker is open, also if this call opened it;
        InputSuspected when the provider failed and then answered the canary; TooManyTexts
        when it takes fewer texts a call (see `most_texts`); ShuttingDown when the
        process ends; RedisUnavailable before any call; else the provider's errors.
        """
        with self._place(claim.renew):
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
            except InputRejected as error:
                self._verdicts.abandon(admission)
                if error.too_many and self._texts.refused(len(texts)):
                    log.warning("provider_takes_fewer_texts", most=self.most_texts)
                    raise TooManyTexts(str(error)) from error
                raise
            except CallFailed as failed:
                self._find_whose_fault(admission, failed.error, claim)
            yield answer.vectors

    def ask_canary(self, claim: Renewable) -> None:
        """Return if the provider answers the canary with a vector that can be used.

        Call it after the provider refused texts or gave them no usable vector. Raises
        ProviderPaused when the canary fares no better, and the breaker opens; otherwise the
        same errors as `embed`.
        """
        with self._place(claim.renew):
            self._probe(self._admitted(claim), for_certain=True)

    def search(self, text: str, role: Role = Role.QUERY) -> Embeddings:
        """One call for a search, without the breaker: a person waits, and may try again.

        Raises the provider's errors, and ProviderThrottled when no slot is near.
        """
        with self._place():
            answer = self._call([text], Traffic.SEARCH, role)
            # As `embed` does, with its place in hand: else each may wait for the other's.
            self.canary.accept(answer.model, lambda: self._ask_ours(Traffic.SEARCH))
        return answer

    def abort(self) -> None:
        """Abort the running calls. They raise ShuttingDown, and so does every later call."""
        self._provider.abort()

    def is_beyond_chance(self, failures: int) -> bool:
        """Whether this many failures in a row of a text, asked alone, are the text's fault.

        Raises RedisUnavailable.
        """
        return blame.is_beyond_chance(failures, self._breaker.state())

    @contextmanager
    def _place(self, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for a place among the calls, and hold it. Raises ShuttingDown."""
        self._shutdown.acquire(self._concurrency, meanwhile)
        try:
            yield
        finally:
            self._concurrency.release()

    def _admitted(self, claim: Renewable) -> Admission:
        """The breaker's admission for one call, after the probes that it asks for."""
        while True:
            self._shutdown.check()
            claim.renew()
            admission = self._breaker.admit()
            if not admission.allowed:
                raise ProviderPaused("the provider is paused", admission.retry_in_s)
            if not admission.probe:
                return admission
            self._probe(admission)

    def _call(
        self, texts: Sequence[str], traffic: Traffic = Traffic.ROWS, role: Role = Role.DOCUMENT
    ) -> Embeddings:
        """Wait for a slot in the rate limit, then make the call and time it."""
        grant = self._slots.take(texts, traffic)
        began, started = self._concurrency.begin(), self._clock()

        def ended(outcome: str, tokens: int | None = None) -> None:
            seconds = self._clock() - started
            self._concurrency.end(began, outcome, len(texts), seconds)
            self._emit(ProviderCalled(outcome, len(texts), seconds, tokens))

        try:
            answer = self._provider.embed(texts, role)
        except Exception as error:
            ended(fault_of(error))
            if isinstance(error, ProviderThrottled):
                raise self._slots.throttled(error, traffic) from error
            raise
        ended(OK, answer.tokens)
        self._slots.settle(grant, answer)
        return answer

    def _probe(self, admission: Admission, *, for_certain: bool = False) -> None:
        """Send the canary. Any failure is the provider's fault, and the breaker is told so."""
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
        """Blame the provider if it does not answer the canary either, and else the texts."""
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
            self._texts.one_answered()
            log.warning("provider_takes_one_text", reason=str(error))
            raise TooManyTexts(str(error)) from error
        raise InputSuspected(str(error), blame.suspicion(error)) from error

    def _answers_ours(self, times: int, claim: Renewable) -> bool:
        """Whether the provider answers the canary, sent up to `times` times."""
        give_up = time.monotonic() + blame.PATIENCE_S
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
