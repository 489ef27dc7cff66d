"""The end of a process: asked for by a signal, heard by everything that waits."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from embed_star.errors import ShuttingDown

log = structlog.get_logger(__name__)

END_S = 1.2
"""From the end of the grace period until the process ends, if need be by force. Aborted work is
given back meanwhile."""

_PLACE_POLL_S = 0.1


class Places(Protocol):
    """What a thread may have to wait for."""

    def acquire(self, *, timeout: float) -> bool:
        """Take one within `timeout` seconds; whether there was one."""


class Shutdown:
    """How a process ends, in three steps.

    Waits end at once and nothing new begins; when the grace period is over, what still runs is
    aborted; when that does not help, the process ends by force. A second request ends the grace
    period at once. One for each process; thread-safe.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._begun = threading.Event()
        # A SimpleQueue, not the Event: its `put` may be called from a signal handler, which
        # may have interrupted the very thread that waits for the event, lock in hand.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def begun(self) -> bool:
        """Whether the process is to end."""
        return self._begun.is_set()

    def request(self) -> None:
        """Begin to end; a second time: now. For signal handlers. Needs `watch`."""
        self._requests.put(None)

    def check(self) -> None:
        """Raise ShuttingDown when the process is to end."""
        if self.begun:
            raise ShuttingDown("this process is being stopped")

    def wait(self, seconds: float) -> None:
        """Sleep. Raises ShuttingDown as soon as the process is to end."""
        self._begun.wait(seconds)
        self.check()

    def acquire(self, places: Places, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Take one of `places`. Raises ShuttingDown, with none taken, as `wait` does.

        While it waits it calls `meanwhile`, ten times a second; what that raises ends the wait.
        """
        self.check()
        while not places.acquire(timeout=_PLACE_POLL_S):
            self.check()
            meanwhile()

    def watch(
        self,
        *,
        on_begin: Callable[[], None] = lambda: None,
        on_over: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
        end_s: float = END_S,
    ) -> None:
        """Carry out requests, in a thread that ends with the process.

        `on_begin` is called at the request, `on_over` when the grace period is over, `on_end`
        if the process is still there `end_s` later. Their errors are logged. An `end_s` above
        the usual `END_S` shortens the grace period by the difference: the process ends at the
        same time.
        """
        steps = (on_begin, on_over, on_end)
        threading.Thread(
            target=self._watch, args=(end_s, *steps), name="shutdown", daemon=True
        ).start()

    def _watch(
        self,
        end_s: float,
        on_begin: Callable[[], None],
        on_over: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._requests.get()
        self._begun.set()
        until = time.monotonic() + self._grace_s + END_S - end_s
        log.info("shutdown_begun", grace_s=self._grace_s)
        _start(on_begin)
        with suppress(queue.Empty):
            self._requests.get(timeout=max(0.0, until - time.monotonic()))
        until = time.monotonic() + end_s
        _start(on_over)
        time.sleep(max(0.0, until - time.monotonic()))
        _try(on_end)


def _start(step: Callable[[], None]) -> None:
    # In a thread of its own: what a step waits for must not put off the next one.
    threading.Thread(target=_try, args=(step,), daemon=True).start()


def _try(step: Callable[[], None]) -> None:
    try:
        step()
    except Exception:  # ours is a thread that nobody looks after
        log.exception("shutdown_step_failed")
