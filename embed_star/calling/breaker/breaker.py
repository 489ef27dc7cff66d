"""Circuit breakers: while a provider fails, nobody calls it but one probe at a time.

The contract, and how breakers are put together. The state machine is written twice: for
the fleet in Lua (`guards.redis_breaker`), for one process in `guards.local_breaker`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol, TypeVar

import structlog

from embed_star.errors import RedisUnavailable
from embed_star.providers.catalogue import PROVIDERS

log = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")

PROBE_POLL_S = 1.0
"""Longest wait advised while a probe is under way: most are over much sooner than their
lease."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a breaker opens and closes. All numbers are more than 0."""

    failures: int
    """Failures in a row that open it."""
    open_s: float
    """Pause from its opening to the first probe; the same after each probe that failed.

    It does not grow: one call in this time costs nothing, and a longer pause would only
    be slower to find the provider back.
    """
    successes_to_close: int
    """Successful probes in a row."""
    failure_rate: float = 0.5
    """Share of failed calls, up to 1, that opens it, from `min_requests` on."""
    min_requests: int = 20
    window_s: float = 60.0
    """What the rate looks back on, roughly: counts are kept by halves of it, and those of
    the present half and of the one before count, so half of it at least."""
    probe_s: float = 35.0
    """A probe that has not reported by then is given up. More than a call may take."""


DEFAULTS: Mapping[str, Thresholds] = {
    name: Thresholds(usual.failures, usual.open_s, usual.successes_to_close)
    for name, facts in PROVIDERS.items()
    if (usual := facts.breaker)
}
"""By provider. `local` has none: there is nobody to spare (see `NeverOpen`)."""


class Phase(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"  # lets all through
    OPEN = "open"  # refuses all
    HALF_OPEN = "half_open"  # lets one probe through at a time


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to one call's question; hand it back with the call's result."""

    allowed: bool
    probe: bool = False
    """Whether the provider's being well again depends on this call."""
    retry_in_s: float = 0.0
    """When to ask again, if refused."""
    ticket: int = 0
    """The closed phase, or the probe, that the call belongs to: by it late results are told."""


@dataclass(frozen=True, slots=True)
class State:
    """One look at a breaker."""

    phase: Phase
    retry_in_s: float = 0.0
    """0 exactly when a call would be admitted now."""
    failures: int = 0
    """In a row; once it is open, those that were counted before."""
    requests: int = 0
    """Results within the window, and the failures among them."""
    failed_requests: int = 0
    probes_passed: int = 0


class Breaker(Protocol):
    """Guards calls to one model of one provider. Safe to use from several threads.

    After `admit`, exactly one of the other three is to be called for a call that was
    allowed; a probe of which nothing is heard is given up after `Thresholds.probe_s`.
    Results of calls that were admitted before it opened, or of probes that were given
    up for another one, change nothing; nor does a probe's second result. For a refused
    call there is nothing to report.
    """

    def admit(self) -> Admission:
        """Whether a call may be made now."""

    def succeeded(self, admission: Admission) -> bool:
        """The provider did its part. Whether that closed the breaker."""

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        """The provider is at fault. Whether that opened the breaker, again if a probe.

        `for_certain` says that the next calls would fail as well (a revoked key): it
        opens at once.
        """

    def abandon(self, admission: Admission) -> None:
        """Nothing was learnt (a 429, a text refused, a bug): another may probe at once."""

    def state(self) -> State:
        """What it would do now; asks for nothing and takes no probe's place."""


class NeverOpen:
    """The breaker of a model within this process: nothing outside of it can be down."""

    def admit(self) -> Admission:
        return Admission(allowed=True)

    def succeeded(self, admission: Admission) -> bool:
        del admission
        return False

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        del admission, for_certain
        return False

    def abandon(self, admission: Admission) -> None:
        """Nothing to give back."""

    def state(self) -> State:
        return State(Phase.CLOSED)


@dataclass(frozen=True, slots=True)
class _Pair(Admission):
    """An admission with what each of the two breakers knows it by."""

    shared: Admission | None = None
    local: Admission | None = None


class FallbackBreaker:
    """The fleet's breaker, and this process' own while Redis is away. Raises nothing.

    The local one hears the results of all calls that it would have admitted as well, so
    it knows how the provider does when its turn comes.
    """

    def __init__(self, shared: Breaker, local: Breaker) -> None:
        self._shared = shared
        self._local = local
        self._noting = threading.Lock()
        self._away = False

    def admit(self) -> Admission:
        shared = self._ask(self._shared.admit)
        if shared is not None and not shared.allowed:
            return shared
        local = self._local.admit()
        way = shared or local
        return _Pair(way.allowed, way.probe, way.retry_in_s, shared=shared, local=local)

    def succeeded(self, admission: Admission) -> bool:
        return self._tell(admission, lambda breaker, its: breaker.succeeded(its))

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        return self._tell(
            admission, lambda breaker, its: breaker.failed(its, for_certain=for_certain)
        )

    def abandon(self, admission: Admission) -> None:
        def give_back(breaker: Breaker, its: Admission) -> bool:
            breaker.abandon(its)
            return False

        self._tell(admission, give_back)

    def state(self) -> State:
        return self._ask(self._shared.state) or self._local.state()

    def _tell(self, admission: Admission, report: Callable[[Breaker, Admission], bool]) -> bool:
        if not isinstance(admission, _Pair):  # refused
            return False
        mine = admission.local is not None and report(self._local, admission.local)
        if admission.shared is None:
            return mine
        told = self._ask(partial(report, self._shared, admission.shared))
        return mine if told is None else told

    def _ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        """The shared breaker's answer; None without Redis."""
        try:
            answer = question()
        except RedisUnavailable as error:
            self._note_away(True, str(error))
            return None
        self._note_away(False)
        return answer

    def _note_away(self, away: bool, reason: str = "") -> None:
        with self._noting:
            if away == self._away:
                return
            self._away = away
        if away:
            log.warning("breaker_of_this_process_only", reason=reason)
        else:
            log.info("breaker_shared_again")
