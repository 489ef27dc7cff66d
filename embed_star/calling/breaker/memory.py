"""The circuit breaker of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from embed_star.calling.breaker.breaker import PROBE_POLL_S, Admission, Phase, State, Thresholds


class MemoryBreaker:
    """`Breaker` in memory, over an injected clock, counting in whole milliseconds."""

    def __init__(self, thresholds: Thresholds, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = thresholds
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._open = False
        self._opened = self._leased = 0  # when, in ms
        self._number = 0  # the last that was given to a closed phase or a probe
        self._phase = 0  # the number of the closed phase
        self._lease = 0  # the number of the probe under way; 0: none is
        self._failures = self._passed = 0
        self._slot = 0
        self._here = self._before = (0, 0)  # good and bad results, by half windows

    def admit(self) -> Admission:
        with self._one_at_a_time:
            now = self._now()
            wait = self._wait(now)
            if wait:
                return Admission(allowed=False, retry_in_s=wait / 1000)
            if not self._open:
                return Admission(allowed=True, ticket=self._phase)
            self._lease, self._leased = self._next_number(), now
            return Admission(allowed=True, probe=True, ticket=self._lease)

    def succeeded(self, admission: Admission) -> bool:
        with self._one_at_a_time:
            if not self._is_heard(admission):
                return False
            if not self._open:
                self._failures = 0
                self._count(self._now(), good=1)
                return False
            self._lease = 0
            self._passed += 1
            if self._passed < self._limits.successes_to_close:
                return False
            self._open, self._phase = False, self._next_number()
            self._failures = self._passed = 0
            self._here = self._before = (0, 0)
            return True

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        with self._one_at_a_time:
            if not self._is_heard(admission):
                return False
            now = self._now()
            if not self._open:
                self._failures += 1
                self._count(now, bad=1)
                if not (for_certain or self._is_too_much()):
                    return False
            self._open, self._opened = True, now
            self._lease = self._passed = 0
            return True

    def abandon(self, admission: Admission) -> None:
        with self._one_at_a_time:
            if self._is_heard(admission):
                self._lease = 0

    def state(self) -> State:
        with self._one_at_a_time:
            now = self._now()
            wait = self._wait(now)
            self._count(now)
            good, bad = (sum(pair) for pair in zip(self._here, self._before, strict=True))
            paused = now < self._opened + _ms(self._limits.open_s)
            phase = Phase.CLOSED if not self._open else Phase.OPEN if paused else Phase.HALF_OPEN
            return State(phase, wait / 1000, self._failures, good + bad, bad, self._passed)

    def _now(self) -> int:
        return round(self._clock() * 1000)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _is_heard(self, admission: Admission) -> bool:
        # Numbers are given out once, so what an earlier phase let through is told apart. The
        # first phase has number 0, and so has a lease that nobody holds.
        current = (self._lease or None) if self._open else self._phase
        return admission.ticket == current

    def _wait(self, now: int) -> int:
        """Milliseconds until a call may be admitted; 0: now."""
        if not self._open:
            return 0
        # A clock that was set back must not make the pause longer.
        self._opened, self._leased = min(self._opened, now), min(self._leased, now)
        wait = self._opened + _ms(self._limits.open_s) - now
        if wait <= 0 and self._lease:
            wait = min(self._leased + _ms(self._limits.probe_s) - now, _ms(PROBE_POLL_S))
        return max(0, wait)

    def _count(self, now: int, *, good: int = 0, bad: int = 0) -> None:
        slot = now // _ms(self._limits.window_s / 2)
        if slot != self._slot:
            self._before = self._here if slot == self._slot + 1 else (0, 0)
            self._here, self._slot = (0, 0), slot
        self._here = (self._here[0] + good, self._here[1] + bad)

    def _is_too_much(self) -> bool:
        bad = self._here[1] + self._before[1]
        requests = bad + self._here[0] + self._before[0]
        return self._failures >= self._limits.failures or (
            requests >= self._limits.min_requests and bad >= self._limits.failure_rate * requests
        )


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
