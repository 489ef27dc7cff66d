"""Liveness and readiness of a process: the answers of /livez and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embed_star.observe.sampler import Sampler

READY_DEADLINE_S = 2.0
READY_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A probe's answer: whether all is well, and the body."""

    ok: bool
    body: Mapping[str, Any]


class Heartbeat:
    """A loop beats it each time round; a loop that does not is stuck. Thread-safe."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._moved: float | None = None

    def beat(self) -> None:
        """The loop moves."""
        self._moved = self._clock()

    def rest(self) -> None:
        """The loop waits for another process. It is not stuck, until its next beat."""
        self._moved = None

    @property
    def resting(self) -> bool:
        return self._moved is None

    def stuck(self) -> str:
        """For how long the loop has been stuck; empty when it moves or rests."""
        moved = self._moved
        silent_s = 0.0 if moved is None else self._clock() - moved
        return f"has not moved for {silent_s:.0f} s" if silent_s > self._timeout_s else ""


Live = Callable[[], Mapping[str, str]]
"""Returns the loops that are stuck, and for how long. Asks no other process."""

Missing = Callable[[], Mapping[str, str]]
"""Returns the missing parts, and why. May take long. Example: {"redis": "does not answer"}."""


def liveness(live: Live) -> ProbeResult:
    """The answer of /livez."""
    stuck = live()
    return (
        ProbeResult(False, {"live": False, "stuck": stuck})
        if stuck
        else ProbeResult(True, {"live": True})
    )


class Readiness:
    """The answer of /readyz, in bounded time. Runs each check at most once a second."""

    def __init__(self, checks: Mapping[str, Missing]) -> None:
        """`checks` by name. A check that takes too long is reported by its name."""
        self._samplers = {
            name: Sampler(check, fresh_s=READY_FRESH_S, late_s=READY_DEADLINE_S)
            for name, check in checks.items()
        }

    def answer(self) -> ProbeResult:
        until = time.monotonic() + READY_DEADLINE_S
        for sampler in self._samplers.values():
            sampler.renew()
        missing: dict[str, str] = {}
        for name, sampler in self._samplers.items():
            found = sampler.get(max(0.0, until - time.monotonic()))
            missing |= {name: found.reason} if found.value is None else found.value
        if missing:
            return ProbeResult(False, {"ready": False, "missing": missing})
        return ProbeResult(True, {"ready": True})
