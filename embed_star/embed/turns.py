"""Whose turn a message is: a worker that seemed dead finds that another one has its message."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from embed_star.coordination.in_flight import InFlightLedger
from embed_star.errors import RedisUnavailable, TakenOver


class Turn:
    """This process' turn on one message of a run, noted in the in-flight ledger.

    Example: the process is stopped in the middle of a batch, until it is taken for dead. Its
    messages are requeued, and another worker begins this one. `check`, before the next call
    to the provider, raises TakenOver, and nothing is paid for twice.
    """

    def __init__(
        self,
        ledger: InFlightLedger,
        run_id: str,
        message: str,
        *,
        sure_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """For `sure_s` after it was asked, nobody can have taken the message."""
        self._ledger = ledger
        self._run_id = run_id
        self._message = message
        self._sure_s = sure_s
        self._clock = clock
        self._by = uuid4().hex
        self._known = math.inf

    def begin(self, rows: int, keep_s: float, *, again: bool) -> bool:
        """Note that the message, with `rows` rows, is begun; see `InFlightLedger.start`.

        When it raises RedisUnavailable, there is no note, and nothing is checked later.
        """
        now = self._clock()
        note = self._ledger.start
        begun = note(self._run_id, rows, self._message, keep_s, by=self._by, again=again)
        self._known = now
        return begun

    def check(self) -> None:
        """Raise TakenOver if another worker has the message. Raises RedisUnavailable.

        Asks Redis at most each `sure_s`.
        """
        now = self._clock()
        if now - self._known < self._sure_s:
            return
        if not self._ledger.is_begun_by(self._run_id, self._message, self._by):
            raise TakenOver("another worker has this message, or Redis has forgotten it")
        self._known = now

    def check_at_end(self) -> None:
        """As `check`, for work that is done: without Redis, it is taken for this worker's."""
        with suppress(RedisUnavailable):
            self.check()
