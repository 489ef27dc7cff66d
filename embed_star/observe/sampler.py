"""Values that are read in the background, so that whoever asks never waits long for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from embed_star.errors import EmbedStarError

log = structlog.get_logger(__name__)

T = TypeVar("T")

WORTH = 20
"""A reading that took a second is kept for so many: reading takes a twentieth of the time."""
KEPT_S = 120.0
"""Longest that a value is given out while a slow reading renews it."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One answer: a value, or why there is none."""

    value: T | None
    reason: str = ""


class Reader(Generic[T]):
    """Reads when asked, in a thread of its own, one at a time. Thread-safe; raises nothing."""

    def __init__(
        self,
        read: Callable[[], T],
        *,
        fresh_s: float,
        late_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What `read` gave, or raised, is given out for `fresh_s` without reading again.

        One under way for `late_s` has failed, and what was read before is no longer true.
        """
        self._read = read
        self._fresh_s = fresh_s
        self._late_s = late_s
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: threading.Event | None = None
        self._began = 0.0
        self._last: Reading[T] = Reading(None, "not read yet")
        self._read_at = self._fresh_until = float("-inf")
        self.failures = 0
        """Readings that failed or were late."""
        self._late = False

    def renew(self) -> None:
        """Begin to read what is no longer fresh, without waiting."""
        with self._lock:
            if self._clock() >= self._fresh_until and self._under_way is None:
                self._begin()

    def get(self, deadline_s: float) -> Reading[T]:
        """What was read last, once it is fresh or after `deadline_s`; without a value when it
        cannot be read, or is too old to be true."""
        with self._lock:
            if self._clock() < self._fresh_until:
                return self._last
            done = self._under_way or self._begin()
        done.wait(deadline_s)
        with self._lock:
            return self._last if self._under_way is None else self._while_under_way()

    def _begin(self) -> threading.Event:
        self._under_way = done = threading.Event()
        self._began, self._late = self._clock(), False
        threading.Thread(target=self._run, args=(done,), name="reading", daemon=True).start()
        return done

    def _while_under_way(self) -> Reading[T]:
        now = self._clock()
        if now - self._began < self._late_s and now - self._read_at < KEPT_S:
            return self._last
        if not self._late:
            self._late = True
            self.failures += 1
        return Reading(None, f"no answer for {now - self._began:.0f} s")

    def _run(self, done: threading.Event) -> None:
        try:
            found: Reading[T] = Reading(self._read())
        except EmbedStarError as error:
            found = Reading(None, str(error))
        except Exception as error:
            log.exception("reading_failed")
            found = Reading(None, f"a fault of our own: {type(error).__name__}")
        with self._lock:
            now = self._clock()
            took_s = now - self._began
            self._last = found
            self.failures += found.value is None and not self._late
            self._read_at = now if found.value is not None else float("-inf")
            self._fresh_until = now + max(self._fresh_s, WORTH * took_s * (not found.reason))
            self._under_way = None
        done.set()
