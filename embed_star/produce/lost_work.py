"""Takes up what a dead worker or a Redis without its data has left: messages, and claimed rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from embed_star.claims.claims import Claims
from embed_star.coordination.in_flight import Fate, InFlightLedger
from embed_star.coordination.workers import Beat, Look
from embed_star.errors import RedisUnavailable
from embed_star.models import Key

log = structlog.get_logger(__name__)

GAP_LOOKS = 5
"""After so many looks that were missed, and after one that failed, all waits begin anew: in an
outage of Redis no worker can beat."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds."""

    look_s: float
    """Between two looks."""
    dead_after_s: float
    """For a worker's beat."""
    lost_run_s: float
    """For a worker to say that it is at a run that the ledger has forgotten."""


class Workers(Protocol):
    """`coordination.workers.Workers`."""

    def look(self) -> Look:
        """What is known of them now."""

    def requeue(self, worker: str) -> int:
        """Put the messages of `worker` back into their queues, and forget it; how many."""


class LostWork:
    """Watches the workers of the fleet, and the runs that this process has begun.

    A worker is dead when its beat has not changed for so long, by this process' clock. Its
    messages are requeued; its runs keep their claims, and go on. A run is lost when the ledger
    has forgotten it, or no message waits in any queue (one on its way to a worker that stands
    still is in none), and no worker says that it is at it, each having been heard since. Then
    its rows are released. A wrong guess costs work, and never a row: the fence stays. Not
    thread-safe.
    """

    def __init__(
        self,
        *,
        workers: Workers,
        ledger: InFlightLedger,
        claims: Claims,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._ledger = ledger
        self._claims = claims
        self._patience = patience
        self._clock = clock
        self._runs: dict[str, Sequence[Key]] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        """The count of each worker's last beat, and when it was new."""
        self._missing: dict[str, float] = {}
        """The runs that seem to be lost, and since when."""
        self._looked = float("-inf")

    def began(self, run_id: str, keys: Sequence[Key]) -> None:
        """Watch a run that was dispatched, with its claimed rows."""
        self._runs[run_id] = keys

    def look(self) -> None:
        """Look once, if the last look was `look_s` ago. Released rows wake the leader.

        Raises RedisUnavailable and StoreUnavailable; the next call goes on.
        """
        now = self._clock()
        if now - self._looked < self._patience.look_s:
            return
        try:
            beats, idle = self._workers.look()
            fates = self._ledger.fates(list(self._runs))
        except RedisUnavailable:
            self._looked = float("-inf")
            raise
        if now - self._looked > GAP_LOOKS * self._patience.look_s:
            self._beats.clear()
            self._missing.clear()
        self._looked = now
        self._requeue_of_dead_ones(beats, now)
        busy = {run for beat in self._alive(beats) for run in beat.runs}
        self._note(fates, busy, now, idle=idle)
        for run_id, since in list(self._missing.items()):
            heard = all(new > since for _, new in self._beats.values())
            if heard and now - since >= self._patience.lost_run_s:
                self._release(run_id)

    def _alive(self, beats: dict[str, Beat]) -> list[Beat]:
        """Those of the workers that were not given up."""
        return [beat for worker, beat in beats.items() if worker in self._beats]

    def _requeue_of_dead_ones(self, beats: dict[str, Beat], now: float) -> None:
        known = self._beats
        self._beats = {}
        for worker, beat in beats.items():
            count, since = known.get(worker, (None, now))
            if count != beat.number:
                since = now
            self._beats[worker] = (beat.number, since)
            if now - since >= self._patience.dead_after_s:
                del self._beats[worker]
                log.warning("worker_given_up", messages=self._workers.requeue(worker))
                self._missing.clear()  # their runs may go on with these messages

    def _note(self, fates: Sequence[Fate], busy: set[str], now: float, *, idle: bool) -> None:
        for run_id, fate in zip(list(self._runs), fates, strict=True):
            if fate is not Fate.OVER and run_id not in busy and (idle or fate is Fate.UNKNOWN):
                self._missing.setdefault(run_id, now)
                continue
            self._missing.pop(run_id, None)
            if fate is Fate.OVER:
                del self._runs[run_id]

    def _release(self, run_id: str) -> None:
        keys = self._runs[run_id]
        held = self._claims.held(keys, run_id)
        rows = [key for key, mine in zip(keys, held, strict=True) if mine]
        if rows:
            log.warning("run_lost", run_id=run_id, rows=len(rows))
            self._claims.release(rows, run_id)
            self._ledger.give_back(run_id, len(rows))
        del self._runs[run_id], self._missing[run_id]
