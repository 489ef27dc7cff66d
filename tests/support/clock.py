"""A time that passes when it is told to."""

from __future__ import annotations


class Clock:
    """Seconds since 1970, for what takes a clock."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class TickingClock(Clock):
    """Each look at it finds it 10 ms later, for suites that wait for an end."""

    def __call__(self) -> float:
        self.now_s += 0.01
        return self.now_s
