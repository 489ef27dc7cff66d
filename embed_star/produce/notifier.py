"""Wakes the producer's loop: at a finished run, at rows given back, at a write."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from embed_star.coordination.in_flight import InFlightLedger
from embed_star.errors import RedisUnavailable
from embed_star.events import Emit, ignore_event
from embed_star.produce import unexpected_errors
from embed_star.produce.live_query import LiveConnection, LiveQueryListener

log = structlog.get_logger(__name__)

RETRY_S = 1.0
STOP_S = 2.0
"""The longest that `join` waits for each listener."""


class Notifier:
    """One event that the loop waits for, and a thread for each source that sets it.

    The sources are what the in-flight ledger publishes and, where there is a way to
    connect, a live query. Notifications are hints: the poll finds whatever they miss.
    """

    def __init__(
        self,
        ledger: InFlightLedger,
        connect: Callable[[], LiveConnection] | None,
        *,
        poll_s: float,
        emit: Emit = ignore_event,
    ) -> None:
        """`connect` opens a connection for the live query; None: use no live query."""
        self._ledger = ledger
        self._emit = emit
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._rows_given_back = False
        self._live_query = (
            LiveQueryListener(connect, self._woken.set, poll_s=poll_s, emit=emit)
            if connect
            else None
        )
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to listen. Once only."""
        runs = [self._listen_to_ledger]
        if self._live_query:
            runs.append(self._live_query.run)
        self._threads = [threading.Thread(target=run, daemon=True) for run in runs]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> None:
        """Return at a notification since the last `clear`, after `stop`, or at the time-out."""
        self._woken.wait(timeout_s)

    def clear(self) -> None:
        """Forget the notifications so far."""
        self._woken.clear()

    def rows_were_given_back(self) -> bool:
        """Whether rows were given back since the last call; they may lie before the last page."""
        given_back, self._rows_given_back = self._rows_given_back, False
        return given_back

    def listen_to_writes(self, listen: bool) -> None:
        """Resume or pause the live query. A second call changes nothing."""
        if self._live_query:
            (self._live_query.resume if listen else self._live_query.pause)()

    def wake_all(self) -> None:
        """Wake the loops of all producers, this one's too. Raises RedisUnavailable."""
        self._ledger.wake()

    def stop(self) -> None:
        """Wake the loop, and end the listeners soon. From any thread."""
        self._stopped.set()
        self._woken.set()
        if self._live_query:
            self._live_query.stop()

    def join(self) -> None:
        """After `stop`: wait until the listeners have ended, STOP_S for each."""
        for thread in self._threads:
            thread.join(STOP_S)

    def _listen_to_ledger(self) -> None:
        while not self._stopped.is_set():
            try:
                self._ledger.listen(self._on_message, self._stopped.is_set)
            except RedisUnavailable as error:
                log.warning("finished_runs_unheard", reason=str(error))
                self._stopped.wait(RETRY_S)
            except Exception as error:  # noqa: BLE001 - the next connection may not meet it
                unexpected_errors.report(error, "runs", RETRY_S, self._emit)
                self._stopped.wait(RETRY_S)

    def _on_message(self, given_back: bool) -> None:
        if given_back:
            self._rows_given_back = True
        self._woken.set()
