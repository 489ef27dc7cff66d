"""Whether a process lives and whether it is ready: what /livez and /readyz answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embed_star.observe.sampler import Reader

READY_DEADLINE_S = 2.0
READY_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a probe: whether it is well, and what is said."""

    well: bool
    body: Mapping[str, Any]


class Heartbeat:
    """A loop that says that it moves. Any thread may ask."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._moved: float | None = None

    def beat(self) -> None:
        """It moves."""
        self._moved = self._clock()

    def rest(self) -> None:
        """It waits for something outside of the process, and is not to be judged until it moves."""
        self._moved = None

    @property
    def resting(self) -> bool:
        return self._moved is None

    def stuck(self) -> str:
        """What is wrong; empty when it moves, or rests."""
        moved = self._moved
        silent_s = 0.0 if moved is None else self._clock() - moved
        return f"has not moved for {silent_s:.0f} s" if silent_s > self._timeout_s else ""


Live = Callable[[], Mapping[str, str]]
"""What is stuck, and for how long; asks nobody outside of the process."""

Missing = Callable[[], Mapping[str, str]]
"""What is missing, and why; may take its time."""


def liveness(live: Live) -> Answer:
    """What /livez answers."""
    stuck = live()
    return Answer(False, {"live": False, "stuck": stuck}) if stuck else Answer(True, {"live": True})


class Readiness:
    """What /readyz answers: bounded in time, and asking at most once a second."""

    def __init__(self, checks: Mapping[str, Missing]) -> None:
        """`checks` by what each is about, for when it does not answer in time."""
        self._readers = {
            name: Reader(check, fresh_s=READY_FRESH_S, late_s=READY_DEADLINE_S)
            for name, check in checks.items()
        }

    def answer(self) -> Answer:
        until = time.monotonic() + READY_DEADLINE_S
        for reader in self._readers.values():
            reader.renew()
        missing: dict[str, str] = {}
        for name, reader in self._readers.items():
            found = reader.get(max(0.0, until - time.monotonic()))
            missing |= {name: found.reason} if found.value is None else found.value
        if missing:
            return Answer(False, {"ready": False, "missing": missing})
        return Answer(True, {"ready": True})
