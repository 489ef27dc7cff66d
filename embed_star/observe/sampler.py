"""Samples slow values in the background, so that no caller waits long for one."""

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
"""A sample that took a second is fresh for this many: sampling takes a twentieth of the time."""
KEPT_S = 120.0
"""A value is returned for at most this long while a slow read renews it."""


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """A value, or the reason why there is none."""

    value: T | None
    reason: str = ""


class Sampler(Generic[T]):
    """Reads on demand in a thread of its own, one read at a time. Thread-safe; raises nothing."""

    def __init__(
        self,
        read: Callable[[], T],
        *,
        fresh_s: float,
        late_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A result or an error of `read` is fresh for `fresh_s`, and is not read again.

        A read that takes more than `late_s` has failed; the value before it is then too old.
        """
        self._read = read
        self._fresh_s = fresh_s
        self._late_s = late_s
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: threading.Event | None = None
        self._began = 0.0
        self._last: Sample[T] = Sample(None, "not read yet")
        self._read_at = self._fresh_until = float("-inf")
        self.failures = 0
        """How many reads failed or were late."""
        self._late = False

    def renew(self) -> None:
        """Begin a read if the value is no longer fresh. Does not wait."""
        with self._lock:
            if self._clock() >= self._fresh_until and self._under_way is None:
                self._begin()

    def get(self, deadline_s: float) -> Sample[T]:
        """The fresh value; after `deadline_s` the last one.

        It has a reason instead of a value when the read failed or the last one is too old.
        """
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

    def _while_under_way(self) -> Sample[T]:
        now = self._clock()
        if now - self._began < self._late_s and now - self._read_at < KEPT_S:
            return self._last
        if not self._late:
            self._late = True
            self.failures += 1
        return Sample(None, f"no answer for {now - self._began:.0f} s")

    def _run(self, done: threading.Event) -> None:
        try:
            found: Sample[T] = Sample(self._read())
        except EmbedStarError as error:
            found = Sample(None, str(error))
        except Exception as error:
            log.exception("reading_failed")
            found = Sample(None, f"a fault of our own: {type(error).__name__}")
        with self._lock:
            now = self._clock()
            took_s = now - self._began
            self._last = found
            self.failures += found.value is None and not self._late
            self._read_at = now if found.value is not None else float("-inf")
            self._fresh_until = now + max(self._fresh_s, WORTH * took_s * (not found.reason))
            self._under_way = None
        done.set()
