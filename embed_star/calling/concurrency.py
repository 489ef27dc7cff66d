"""How many calls a process has with its provider at once: a fixed number, or one that adapts.

It adapts as TCP does: additive increase while the latency is steady, multiplicative decrease
when it rises, after a 429, and after a call without an answer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import structlog

from embed_star.calling.call_outcomes import OK, THROTTLED, UNAVAILABLE

log = structlog.get_logger(__name__)

ROUND_CALLS = 8
"""At least so many latencies are judged together, by their median: one alone says little."""

RISE = 2.0
"""A latency of this many times the usual one means that calls wait for each other there."""

CEILING_S = 60.0
"""After a 429, the number of calls that got it is not tried again for this long: each costs the
whole fleet a pause of one to five seconds."""

STEADY = 1.5
"""A latency of more than this many times the usual one never becomes the usual one, while there
are other calls that it may come from."""

_UP, _DOWN = 0.05, 0.5
"""How fast the usual latency follows a longer and a shorter one."""


class Call(NamedTuple):
    """One call, as it began."""

    full: bool
    """Whether every place was taken: only then does the limit decide how the call goes."""
    age: int
    """How often the limit had fallen by then. What began before a fall says nothing of it."""


class Concurrency:
    """The places for calls, and their number. Thread-safe.

    A call holds a place from `acquire` to `release`; `begin` and `end` enclose the call itself,
    without the waits before it and the work after it.
    """

    def __init__(
        self,
        limit: int,
        *,
        most: int,
        on_change: Callable[[int], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` calls at once; if `most` is more, that is where it begins to adapt.

        `on_change` is called with each new limit.
        """
        self._most = most
        self._adapts = most > limit
        self._limit = limit
        self._on_change = on_change
        self._clock = clock
        self._changed = threading.Condition()
        self._taken = self._falls = 0
        self._doubles = True
        self._ceiling: float = math.inf
        self._ceiling_until = -math.inf
        self._round: list[float] = []
        self._round_size = 0
        self._usual: dict[int, float] = {}

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return self._limit

    def acquire(self, timeout: float) -> bool:
        """Take a place, and wait up to `timeout` seconds for one; False when none was free."""
        with self._changed:
            free = self._changed.wait_for(lambda: self._taken < self._limit, timeout)
            self._taken += free
            return free

    def release(self) -> None:
        """Give a place back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def begin(self) -> Call:
        """Note that a call begins."""
        with self._changed:
            return Call(self._taken >= self._limit, self._falls)

    def end(self, call: Call, outcome: str, texts: int, seconds: float) -> None:
        """Learn from the end of a call: its outcome (see `call_outcomes`) and its latency."""
        if not self._adapts or not call.full:
            return
        with self._changed:
            before = self._limit
            if call.age == self._falls:
                self._learn(outcome, texts, seconds)
            if self._limit != before:
                self._changed.notify_all()
                log.debug("concurrency_changed", calls=self._limit, before=before)
                self._on_change(self._limit)

    def _learn(self, outcome: str, texts: int, seconds: float) -> None:
        if outcome == THROTTLED:
            self._ceiling = max(1, self._limit - 1)
            self._ceiling_until = self._clock() + CEILING_S
            self._fall()
        elif outcome == UNAVAILABLE:
            self._fall()
        elif outcome == OK:
            self._add(texts.bit_length(), seconds)

    def _add(self, size: int, seconds: float) -> None:
        """Add a latency to the round; judge the round when it is full.

        Calls of about one size make a round: more texts take longer, however many calls there are.
        """
        if size != self._round_size:
            self._round_size = size
            self._round.clear()
        self._round.append(seconds)
        if len(self._round) < max(ROUND_CALLS, self._limit):
            return
        latency = median(self._round)
        self._round.clear()
        usual = self._usual.get(size, latency)
        if latency > RISE * usual and self._limit > 1:
            self._fall()
            return
        self._usual[size] = usual + (latency - usual) * self._weight(latency, usual)
        self._rise()

    def _weight(self, latency: float, usual: float) -> float:
        """How much of a change of latency becomes usual."""
        if self._limit == 1:
            return 1.0  # it waits for no other call of ours: the provider got slower
        if latency < usual:
            return _DOWN
        return _UP if latency < STEADY * usual else 0.0

    def _rise(self) -> None:
        if self._clock() >= self._ceiling_until:
            self._ceiling = math.inf
        wanted = self._limit * 2 if self._doubles else self._limit + 1
        self._limit = int(min(wanted, max(self._ceiling, self._limit), self._most))

    def _fall(self) -> None:
        self._limit = max(1, self._limit // 2)
        self._falls += 1
        self._doubles = False
        self._round.clear()
