"""The most texts that a call may have, learnt from the provider's refusals and answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FORGET_S = 3600.0
"""How long the limit holds: the server may be started with another one."""

LEAST_TEXTS = 10
"""No refusal makes the limit smaller than this: its words may quote a text. Every server that we
know takes so many; among fewer texts, bisection finds the one that is refused."""


class TextLimit:
    """None at first; then, for an hour, what the provider takes. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most = math.inf
        self._until = -math.inf

    @property
    def most(self) -> float:
        """The most texts of a call; infinite while no limit is known."""
        return self._most if self._clock() < self._until else math.inf

    def refused(self, texts: int) -> bool:
        """Learn that `texts` were too many; whether smaller calls may help."""
        if texts <= LEAST_TEXTS:
            return False
        self._set(min(self.most, max(LEAST_TEXTS, texts // 2)))
        return True

    def one_answered(self) -> None:
        """Learn that many texts got a single vector."""
        self._set(1)

    def _set(self, most: float) -> None:
        self._most, self._until = most, self._clock() + FORGET_S
