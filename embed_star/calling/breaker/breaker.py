"""Circuit breakers: while a provider fails, nobody calls it but one probe at a time.

The contract. The state machine is written twice: for the fleet in Lua (`shared.RedisBreaker`),
for one process in `memory.MemoryBreaker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embed_star.providers.catalogue import PROVIDERS

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
    call there is nothing to report. Every method raises RedisUnavailable where Redis has it.
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
