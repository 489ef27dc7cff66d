"""The contract of circuit breakers: while a provider fails, it gets one probe at a time only.

The state machine is written twice: in Lua for the fleet (`shared.RedisBreaker`), and for one
process in `memory.MemoryBreaker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embed_star.providers.catalogue import PROVIDERS

PROBE_POLL_S = 1.0
"""Longest `retry_in_s` while a probe is running: most probes end long before their lease."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a breaker opens and closes. All numbers are more than 0."""

    failures: int
    """Failures in a row that open it."""
    open_s: float
    """Pause before the first probe, and after each failed probe.

    It does not grow: one call in this time costs nothing, and a longer pause would only
    notice later that the provider is back.
    """
    successes_to_close: int
    """Successful probes in a row that close it."""
    failure_rate: float = 0.5
    """Share of failed calls, up to 1, that opens it, once there are `min_requests` calls."""
    min_requests: int = 20
    window_s: float = 60.0
    """How far the failure rate looks back, roughly. Counts are kept for each half of it; the
    present half and the one before count, so it is at least half of this."""
    probe_s: float = 35.0
    """The lease of a probe, longer than a call may take. After it, another probe may begin."""


DEFAULTS: Mapping[str, Thresholds] = {
    name: Thresholds(usual.failures, usual.open_s, usual.successes_to_close)
    for name, facts in PROVIDERS.items()
    if (usual := facts.breaker)
}
"""By provider. `local` has none: a model in this process needs no pause (see `NeverOpen`)."""


class Phase(StrEnum):
    """The states of a breaker."""

    CLOSED = "closed"  # lets all through
    OPEN = "open"  # refuses all
    HALF_OPEN = "half_open"  # lets one probe through at a time


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether one call may be made. Hand it back with the call's result."""

    allowed: bool
    probe: bool = False
    """Whether the call is a probe, whose result decides about closing."""
    retry_in_s: float = 0.0
    """When to ask again, if refused."""
    ticket: int = 0
    """Number of the closed phase or the probe that the call belongs to; marks late results."""


@dataclass(frozen=True, slots=True)
class State:
    """One look at a breaker."""

    phase: Phase
    retry_in_s: float = 0.0
    """0 exactly when a call would be admitted now."""
    failures: int = 0
    """Failures in a row; while it is open, those that were counted before it opened."""
    requests: int = 0
    """Results within the window; `failed_requests` are the failures among them."""
    failed_requests: int = 0
    probes_passed: int = 0


class Breaker(Protocol):
    """Guards calls to one model of one provider. Safe to use from several threads.

    After `admit` allowed a call, call exactly one of `succeeded`, `failed` and `abandon`; after
    a refusal, none. A probe that reports nothing loses its place after `Thresholds.probe_s`.
    Late results change nothing: those of calls admitted before the breaker opened, of probes
    that lost their place, and a second result of a probe. Every method raises RedisUnavailable
    where the breaker is in Redis.
    """

    def admit(self) -> Admission:
        """Whether a call may be made now."""

    def succeeded(self, admission: Admission) -> bool:
        """Report that the provider answered. Returns whether that closed the breaker."""

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        """Report that the provider is at fault. Returns whether that opened the breaker.

        A failed probe opens it again. `for_certain` opens it at once: the next calls would
        fail, too, for example with a revoked key.
        """

    def abandon(self, admission: Admission) -> None:
        """Report that the call showed nothing (a 429, a refused text, a bug).

        If it was a probe, another one may begin at once.
        """

    def state(self) -> State:
        """Its present state. Unlike `admit`, this takes no probe's place."""


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
