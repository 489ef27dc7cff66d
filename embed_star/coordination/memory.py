"""Memory twins of what a fleet keeps in Redis, over injected clocks.

They pass the contract tests of the real ones (`tests/contract`). They are thread-safe, and
never raise RedisUnavailable.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from embed_star.coordination.in_flight import Fate, RunCounts

_LOOK_S = 0.02
"""How often a listener checks whether it must stop."""


class MemoryCacheBackend:
    """A `cache.CacheBackend`. Caches that share it act as those of several processes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._kept: dict[str, tuple[bytes, float]] = {}

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        with self._one_at_a_time:
            return [self._find(name) for name in names]

    def set_many(self, blobs: Mapping[str, bytes], ttl_s: float) -> None:
        with self._one_at_a_time:
            until = self._clock() + ttl_s
            self._kept.update({name: (blob, until) for name, blob in blobs.items()})

    def clear(self) -> None:
        """Forget everything, as a restarted Redis does."""
        with self._one_at_a_time:
            self._kept.clear()

    def _find(self, name: str) -> bytes | None:
        blob, until = self._kept.get(name, (b"", 0.0))
        return blob if self._clock() < until else None


@dataclass(slots=True)
class _Run:
    """One run in flight."""

    rows: int
    queued: int
    begun_at: float
    ends_at: float


@dataclass(slots=True)
class _Started:
    """The messages of one run that workers have begun."""

    until: float = 0.0
    messages: dict[str, str] = field(default_factory=dict)
    """Each with who began it last."""


class MemoryInFlightLedger:
    """An `in_flight.InFlightLedger`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._started: dict[str, _Started] = {}
        self._over: set[str] = set()
        self._totals: Counter[str] = Counter()
        self._listeners: list[queue.SimpleQueue[bool]] = []

    def begin(self, run_id: str, rows: int, give_up_s: float) -> None:
        with self._one_at_a_time:
            now = self._clock()
            self._runs[run_id] = _Run(rows, rows, now, now + give_up_s)

    def start(
        self,
        run_id: str,
        rows: int,
        message: str,
        keep_s: float,
        *,
        by: str = "",
        again: bool = False,
    ) -> bool:
        with self._one_at_a_time:
            now = self._clock()
            started = self._started.get(run_id)
            if started is None or started.until <= now:
                started = self._started[run_id] = _Started()
            if message in started.messages:
                if again:
                    started.messages[message] = by
                return again
            started.messages[message] = by
            started.until = now + keep_s
            if run_id in self._runs:
                self._runs[run_id].queued -= rows
            return True

    def is_begun_by(self, run_id: str, message: str, by: str) -> bool:
        with self._one_at_a_time:
            started = self._started.get(run_id)
            return started is not None and started.messages.get(message) == by

    def fates(self, run_ids: Sequence[str]) -> list[Fate]:
        with self._one_at_a_time:
            return [
                Fate.IN_FLIGHT
                if run_id in self._runs
                else Fate.OVER
                if run_id in self._over
                else Fate.UNKNOWN
                for run_id in run_ids
            ]

    def forget_all(self) -> None:
        """What a Redis does that is flushed."""
        with self._one_at_a_time:
            self._runs, self._started, self._over = {}, {}, set()
            self._totals.clear()

    def put_back(self, run_id: str, rows: int) -> None:
        with self._one_at_a_time:
            if run_id in self._runs:
                self._runs[run_id].queued += rows

    def finish(self, run_id: str, totals: Mapping[str, int]) -> None:
        with self._one_at_a_time:
            self._runs.pop(run_id, None)
            self._started.pop(run_id, None)
            self._over.add(run_id)
            self._totals.update(totals)
        self._publish(given_back=False)

    def give_back(self, run_id: str, rows: int) -> None:
        with self._one_at_a_time:
            if run_id in self._runs:
                self._runs[run_id].rows -= rows
        self._publish(given_back=True)

    def counts(self) -> RunCounts:
        with self._one_at_a_time:
            now = self._clock()
            self._runs = {name: run for name, run in self._runs.items() if now < run.ends_at}
            runs = list(self._runs.values())
            finished = self._totals["finished"]
        in_flight = sum(max(0, run.rows) for run in runs)
        queued = sum(max(0, run.queued) for run in runs)
        begun_at = min((run.begun_at for run in runs), default=now)
        return RunCounts(in_flight, queued, finished, now - begun_at if in_flight else None)

    def totals(self) -> dict[str, int]:
        with self._one_at_a_time:
            return dict(self._totals)

    def wake(self) -> None:
        self._publish(given_back=False)

    def listen(self, ring: Callable[[bool], None], stopped: Callable[[], bool]) -> None:
        rings: queue.SimpleQueue[bool] = queue.SimpleQueue()
        with self._one_at_a_time:
            self._listeners.append(rings)
        try:
            while not stopped():
                try:
                    ring(rings.get(timeout=_LOOK_S))
                except queue.Empty:
                    continue
        finally:
            with self._one_at_a_time:
                self._listeners.remove(rings)

    def _publish(self, *, given_back: bool) -> None:
        with self._one_at_a_time:
            for rings in self._listeners:
                rings.put(given_back)
