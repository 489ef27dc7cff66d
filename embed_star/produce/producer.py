"""The producer's loop: woken by the notifier and by a poll, it dispatches the backlog."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from embed_star.errors import EmbedStarError, RedisUnavailable
from embed_star.events import Emit, ignore_event
from embed_star.produce import unexpected_errors
from embed_star.produce.backlog import Backlog
from embed_star.produce.leadership import Leadership
from embed_star.produce.notifier import Notifier

log = structlog.get_logger(__name__)

_BACKOFF_MAX_S = 5.0

GATHER_S = 0.25
"""The longest that rows gather into one run while those before them wait for a worker.

Without it each row makes a run of its own: 30 rows a second, three calls of 200 ms at a
time, were 3 rows a call, and the queue grew to 3 s; with it, 0.5 s."""
_GATHER_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class ProducerTimings:
    """Intervals of the producer, and the rows above which it does without a live query."""

    poll_s: float
    lease_s: float
    rewind_s: float
    """While work is under way, the lanes are read from their beginning this often."""
    quiet_rows: int
    """With more rows than this in flight, there is no live query."""


class Producer:
    """Leads or stands by until told to stop."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        leadership: Leadership,
        notifier: Notifier,
        timings: ProducerTimings,
        on_lead: Callable[[], None] = lambda: None,
        on_tick: Callable[[], None] = lambda: None,
        emit: Emit = ignore_event,
    ) -> None:
        """`on_lead` is called when it begins to lead, `on_tick` before each tick of the loop."""
        self._backlog = backlog
        self._leadership = leadership
        self._notifier = notifier
        self._timings = timings
        self._on_lead = on_lead
        self._on_tick = on_tick
        self._emit = emit
        self._stopped = threading.Event()
        self._leading = self._standing_by = False
        self._rewound = self._rewind_s = 0.0

    @property
    def leading(self) -> bool:
        """Whether it led at its last tick."""
        return self._leading

    def stop(self) -> None:
        """End `run` soon, and let another producer lead at once. From another thread.

        Not from a signal handler: that may have interrupted a wait for an event that is set here.
        """
        self._stopped.set()
        self._notifier.stop()
        # A claim in progress may take its time: the locks keep two claimers apart.
        self._resign_at_end()

    def run(self) -> None:
        """Dispatch until `stop`. An error, expected or not, is waited out.

        An unexpected error is, too: the next tick may not meet it, and the fleet needs a
        producer.
        """
        self._notifier.start()
        failures = 0
        while not self._stopped.is_set():
            self._notifier.clear()
            try:
                self._on_tick()
                wait_s = self.tick()
                if failures:
                    log.info("recovered", failures=failures)
                failures = 0
            except Exception as error:  # noqa: BLE001 - see above
                failures += 1
                self._wait_out(error, failures)
            else:
                self._notifier.wait(wait_s)
        self._resign_at_end()
        log.info("stopped")
        self._notifier.join()  # before our caller closes what its listeners use

    def tick(self) -> float:
        """Dispatch once if it leads; how long to wait for a notification then, in seconds.

        Raises RedisUnavailable and StoreError.
        """
        if self._backlog.is_retired():
            if self._leading:  # a producer of the active space is to lead
                self._leading = False
                self._resign()
            return self._timings.poll_s
        if not self._leadership.hold():
            self._stand_by()
            return min(self._timings.poll_s, self._timings.lease_s / 3)
        self._lead()
        self._rewind_if_due()
        tick = self._backlog.dispatch()
        self._notifier.listen_to_writes(tick.in_flight <= self._timings.quiet_rows)
        if tick.gather:
            self._gather()
        # With nothing under way, a look from the beginning is one short query.
        self._rewind_s = self._timings.rewind_s if tick.in_flight else self._timings.poll_s / 2
        # However seldom it polls, its lease must not end under it.
        wait_s = min(self._timings.poll_s, self._timings.lease_s / 3)
        return min(wait_s, tick.paused_s) if tick.paused_s else wait_s

    def _wait_out(self, error: Exception, failures: int) -> None:
        wait_s = random.uniform(0.1, min(_BACKOFF_MAX_S, 0.2 * 2**failures))  # noqa: S311 - jitter
        if isinstance(error, EmbedStarError):
            log.warning("producer_waits", reason=str(error), wait_s=round(wait_s, 2))
        else:
            unexpected_errors.report(error, "producer", wait_s, self._emit)
        self._stopped.wait(wait_s)

    def _rewind_if_due(self) -> None:
        now = time.monotonic()
        if self._notifier.rows_were_given_back() or now - self._rewound >= self._rewind_s:
            self._backlog.rewind()
            self._rewound = now

    def _gather(self) -> None:
        """Let rows come until a worker is free, at most GATHER_S."""
        until = time.monotonic() + GATHER_S
        while time.monotonic() < until and self._backlog.has_queued_rows():
            if self._stopped.wait(_GATHER_LOOK_S):
                return

    def _lead(self) -> None:
        if not self._leading:
            log.info("leading")
            self._standing_by = False
            self._rewound = 0.0
            self._on_lead()
        self._leading = True

    def _stand_by(self) -> None:
        if self._leading:
            log.warning("leadership_lost")
        self._leading = False
        if not self._standing_by:
            log.info("standing_by")
            self._standing_by = True

    def _resign(self) -> None:
        self._leadership.resign()
        self._notifier.wake_all()  # a producer that stands by, and our own listener

    def _resign_at_end(self) -> None:
        try:
            self._resign()
        except RedisUnavailable as error:
            log.warning("lease_not_released", reason=str(error))
