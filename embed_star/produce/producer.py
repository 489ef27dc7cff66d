"""The watching loop: woken by a notifier, by finished runs and by a poll."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from embed_star.claims.redis_locks import LockLayer
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.errors import (
    EmbedStarError,
    RedisUnavailable,
    StoreError,
    StoreUnavailable,
    WriteConflict,
    place_of,
)
from embed_star.events import Emit, LoopFailed, ignore_event
from embed_star.produce.backlog import Backlog
from embed_star.store.tables import outbox

log = structlog.get_logger(__name__)

LEASE_KEY = "leader"
_BACKOFF_MAX_S = 5.0
_BELL_STOPS_S = 2.0
_NOTIFICATIONS_S = 100
"""Notifications a second above which the notifier is taken down for a second."""

GATHER_S = 0.25
"""The longest that rows gather into one run while those before them wait for a worker.

Without it each row makes a run of its own: 30 rows a second, three calls of 200 ms at a
time, were 3 rows a call, and the queue grew to 3 s; with it, 0.5 s."""
_GATHER_LOOK_S = 0.02


class Notifier(Protocol):
    """A source of notifications: `store.connection.Connection` with a live query."""

    def listen(self, table: str) -> UUID:
        """Begin to notify; the id for `unlisten`. Raises StoreError where it cannot."""

    def unlisten(self, live_id: UUID) -> None:
        """End it. Raises StoreUnavailable."""

    def next_notification(self, timeout_s: float) -> bool:
        """Wait for a notification; False when none came. Raises StoreUnavailable."""

    def close(self) -> None:
        """Stop it."""


@dataclass(frozen=True, slots=True)
class ProducerTimings:
    """How often, in seconds."""

    poll_s: float
    lease_s: float
    rewind_s: float
    """While work is under way, the lanes are read from their beginning this often."""
    quiet_rows: int
    """With more rows than this in flight, nobody listens at the notifier."""


class Lease:
    """Leadership: a lock in Redis that its holder keeps extending."""

    def __init__(self, locks: LockLayer, owner: str, lease_s: float) -> None:
        self._locks = locks
        self._owner = owner
        self._lease_s = lease_s
        self._renewed = float("-inf")

    def hold(self) -> bool:
        """Take or keep the lease; whether we lead. Raises RedisUnavailable.

        Asks Redis once in a third of the lease.
        """
        now = time.monotonic()
        if now - self._renewed < self._lease_s / 3:
            return True
        extended = self._locks.extend([LEASE_KEY], self._owner, self._lease_s)[0]
        leads = extended or self._locks.acquire([LEASE_KEY], self._owner, self._lease_s)[0]
        self._renewed = now if leads else float("-inf")
        return leads

    def give_up(self) -> None:
        """Let the next one lead at once."""
        self._renewed = float("-inf")
        self._locks.release([LEASE_KEY], self._owner)


class Producer:
    """Leads or stands by until told to stop."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        lease: Lease,
        ledger: InFlightLedger,
        timings: ProducerTimings,
        open_notifier: Callable[[], Notifier] | None,
        on_lead: Callable[[], None] = lambda: None,
        on_turn: Callable[[], None] = lambda: None,
        emit: Emit = ignore_event,
    ) -> None:
        """`on_lead` is called when it begins to lead, `on_turn` with each look at the backlog."""
        self._backlog = backlog
        self._lease = lease
        self._ledger = ledger
        self._timings = timings
        self._open_notifier = open_notifier
        self._on_lead = on_lead
        self._on_turn = on_turn
        self._emit = emit
        self._ring = threading.Event()
        self._stopped = threading.Event()
        self._leading = self._standing_by = False
        self._rewound = self._rewind_s = 0.0
        self._quiet = threading.Event()
        self._given_back = False

    @property
    def leading(self) -> bool:
        """Whether it leads, as of its last turn."""
        return self._leading

    def stop(self) -> None:
        """End `run` soon, and let another one lead at once. From another thread.

        Not from a signal handler: that may have interrupted a wait for what is set here.
        """
        self._stopped.set()
        self._ring.set()
        self._quiet.set()
        # A claim in progress may take its time: two that claim are kept apart by the locks.
        self._step_down()

    def run(self) -> None:
        """Watch until `stop`. Outages of the database and of Redis are waited out, and so is an
        error that nobody expected: the next turn may not meet it, and others need the producer.
        """
        bells = [threading.Thread(target=self._hear_runs, daemon=True)]
        if self._open_notifier is not None:
            bells.append(
                threading.Thread(
                    target=self._hear_database, args=(self._open_notifier,), daemon=True
                )
            )
        for bell in bells:
            bell.start()
        failures = 0
        while not self._stopped.is_set():
            self._ring.clear()
            try:
                self._on_turn()
                wait_s = self._turn()
                if failures:
                    log.info("recovered", failures=failures)
                failures = 0
            except Exception as error:  # noqa: BLE001 - see above
                failures += 1
                wait_s = random.uniform(0.1, min(_BACKOFF_MAX_S, 0.2 * 2**failures))  # noqa: S311 - jitter
                if isinstance(error, EmbedStarError):
                    log.warning("producer_waits", reason=str(error), wait_s=round(wait_s, 2))
                else:
                    self._outlive("producer", error, wait_s)
                self._stopped.wait(wait_s)
                continue
            self._ring.wait(wait_s)
        self._step_down()
        log.info("stopped")
        for bell in bells:  # before their caller closes what they use
            bell.join(_BELL_STOPS_S)

    def _outlive(self, loop: str, error: Exception, wait_s: float) -> None:
        # Not its words, nor a traceback's values: they may quote a row.
        log.error(
            "unexpected_error",
            loop=loop,
            error=type(error).__name__,
            place=place_of(error),
            wait_s=round(wait_s, 2),
        )
        self._emit(LoopFailed(loop))

    def _turn(self) -> float:
        """One look at the backlog; how long to wait for a ring after it, in seconds."""
        if self._backlog.is_retired():
            self._resign()
            return self._timings.poll_s
        if not self._lease.hold():
            self._set_leading(False)
            if not self._standing_by:
                log.info("standing_by")
                self._standing_by = True
            return self._timings.lease_s / 3
        self._set_leading(True)
        now = time.monotonic()
        given_back, self._given_back = self._given_back, False
        if given_back or now - self._rewound >= self._rewind_s:
            self._backlog.rewind()
            self._rewound = now
        turn = self._backlog.dispatch()
        if turn.in_flight > self._timings.quiet_rows:
            self._quiet.clear()
        else:
            self._quiet.set()
        if turn.gather:
            self._gather()
        # With nothing under way, a look from the beginning is one short query.
        self._rewind_s = self._timings.rewind_s if turn.in_flight else self._timings.poll_s / 2
        # However seldom it polls, its lease must not end under it.
        wait_s = min(self._timings.poll_s, self._timings.lease_s / 3)
        return min(wait_s, turn.paused_s) if turn.paused_s else wait_s

    def _gather(self) -> None:
        """Let rows come until a worker is free, at most GATHER_S."""
        until = time.monotonic() + GATHER_S
        while time.monotonic() < until and self._ledger.counts().queued:
            if self._stopped.wait(_GATHER_LOOK_S):
                return

    def _set_leading(self, leading: bool) -> None:
        if leading and not self._leading:
            log.info("leading")
            self._standing_by = False
            self._rewound = 0.0
            self._on_lead()
        elif self._leading and not leading:
            log.warning("leadership_lost")
        self._leading = leading

    def _resign(self) -> None:
        """Let a producer of the active space lead, at once."""
        if self._leading:
            self._leading = False
            self._lease.give_up()
            self._ledger.wake()

    def _step_down(self) -> None:
        try:
            self._lease.give_up()
            self._ledger.wake()  # whoever stands by, and our own ear
        except RedisUnavailable as error:
            log.warning("lease_not_released", reason=str(error))

    def _heard(self, given_back: bool) -> None:
        if given_back:
            self._given_back = True
        self._ring.set()

    def _hear_runs(self) -> None:
        while not self._stopped.is_set():
            try:
                self._ledger.listen(self._heard, self._stopped.is_set)
            except RedisUnavailable as error:
                log.warning("finished_runs_unheard", reason=str(error))
                self._stopped.wait(1.0)
            except Exception as error:  # noqa: BLE001 - as in `run`
                self._outlive("runs", error, 1.0)
                self._stopped.wait(1.0)

    def _hear_database(self, open_notifier: Callable[[], Notifier]) -> None:
        """Ring on live notifications. A hint only: whatever is missed, the poll finds."""
        while not self._stopped.is_set():
            try:
                if not self._hear_notifier(open_notifier):
                    return
            except Exception as error:  # noqa: BLE001 - as in `run`
                self._outlive("doorbell", error, 1.0)
                self._stopped.wait(1.0)

    def _hear_notifier(self, open_notifier: Callable[[], Notifier]) -> bool:
        """Listen at one notifier while it works; whether to open another one."""
        try:
            bell = open_notifier()
        except EmbedStarError as error:
            log.warning("doorbell_waits", reason=str(error))
            self._stopped.wait(1.0)
            return True
        try:
            while not self._stopped.is_set():
                self._listen(bell)
        except StoreUnavailable as error:
            # Also how a server ends what it could not send fast enough: see _listen.
            log.info("live_query_lost", reason=str(error))
            self._stopped.wait(1.0)
        except WriteConflict:
            pass
        except StoreError as error:
            log.info("no_live_queries", reason=str(error), poll_s=self._timings.poll_s)
            return False
        finally:
            bell.close()
        return True

    def _listen(self, bell: Notifier) -> None:
        """Ring for each notification while it is quiet.

        A live query costs the server as much for each row as claiming it does, and in a
        bulk load it drops whoever reads too slowly. With much under way, finished runs
        and the poll wake the producer often enough.
        """
        self._quiet.wait()
        live_id = bell.listen(outbox.TABLE)
        self._ring.set()  # what was written while nobody listened
        second, heard = time.monotonic(), 0
        while self._quiet.is_set() and not self._stopped.is_set():
            if not bell.next_notification(0.5):
                continue
            self._ring.set()
            if time.monotonic() - second > 1.0:
                second, heard = time.monotonic(), 0
            heard += 1
            if heard >= _NOTIFICATIONS_S:
                self._quiet.clear()  # until the next turn finds it quiet
        bell.unlisten(live_id)
