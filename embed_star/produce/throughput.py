"""The fleet's throughput, measured from a counter."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throughput:
    """Rows a second that the fleet finishes, smoothed over a few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, int] | None = None
        self.rows_s = 0.0

    def update(self, finished_total: int) -> float:
        """Take a new value of the counter; the rate."""
        now = self._clock()
        if self._last is None or finished_total < self._last[1]:  # Redis was wiped
            self._last = (now, finished_total)
            return self.rows_s
        passed = now - self._last[0]
        if passed >= 0.5:
            rate = (finished_total - self._last[1]) / passed
            weight = min(1.0, passed / 2.0)
            self.rows_s += (rate - self.rows_s) * weight
            self._last = (now, finished_total)
        return self.rows_s
