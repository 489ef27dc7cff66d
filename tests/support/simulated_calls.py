"""A provider in simulated time, and processes that always have another call for it."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from embed_star.calling.call_outcomes import OK, THROTTLED, UNAVAILABLE
from embed_star.calling.concurrency import Call, Concurrency
from tests.support.clock import Clock

CALL_S = 0.3
TEXTS = 100


@dataclass
class SimulatedCalls:
    """Calls of one process for each of `processes`. Change its fields between two `run`s."""

    clock: Clock
    processes: Sequence[Concurrency]
    refuses_from: int = 1000
    """This many calls at once are too many: the last one gets 429, and all pause for a second."""
    serves: int = 1000
    """Works on so many calls at once; more of them wait for their turn."""
    call_s: float = CALL_S
    sigma: float = 0.0
    """Spread of the latency, log-normal."""
    is_up: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._under_way: list[tuple[float, int, Concurrency, Call, str, float]] = []
        self._order = count()
        self._dice = random.Random(7)  # noqa: S311 - to be the same each time
        self._paused_until = 0.0
        self._turns: list[float] = []

    def run(self, seconds: float, watch: Callable[[], object] = lambda: None) -> Counter[str]:
        """How the calls of the next `seconds` ended. `watch` is called after each."""
        until = self.clock() + seconds
        self.outcomes = Counter()
        while self.clock() < until:
            self._begin()
            if not self._under_way:
                self.clock.pass_s(max(0.001, self._paused_until - self.clock()))
                continue
            at, _, process, call, outcome, took_s = heapq.heappop(self._under_way)
            self.clock.pass_s(max(0.0, at - self.clock()))
            process.end(call, outcome, TEXTS, took_s)
            process.release()
            self.outcomes[outcome] += 1
            if outcome == THROTTLED:
                self._paused_until = self.clock() + 1.0
            watch()
        return self.outcomes

    def _begin(self) -> None:
        if self.clock() < self._paused_until:
            return
        began = True
        while began:  # in turns, as processes do
            began = False
            for process in self.processes:
                if process.acquire(0):
                    self._call(process)
                    began = True

    def _call(self, process: Concurrency) -> None:
        at_once = len(self._under_way) + 1
        if not self.is_up:
            outcome, took_s = UNAVAILABLE, 0.01
        elif at_once >= self.refuses_from:
            outcome, took_s = THROTTLED, 0.01
        else:
            outcome, took_s = OK, self._served_s()
        ends = (self.clock() + took_s, next(self._order), process, process.begin(), outcome, took_s)
        heapq.heappush(self._under_way, ends)

    def _served_s(self) -> float:
        """How long a call takes that begins now, with its wait for its turn."""
        now = self.clock()
        self._turns = sorted(at for at in self._turns if at > now)
        waits_s = 0.0
        if len(self._turns) >= self.serves:
            waits_s = self._turns[-self.serves] - now
        took_s = waits_s + self.call_s * self._dice.lognormvariate(0, self.sigma)
        self._turns.append(now + took_s)
        return took_s
