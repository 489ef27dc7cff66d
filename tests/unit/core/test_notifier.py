"""The Notifier: what wakes the loop, and what need not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest

from embed_star.coordination.memory import MemoryInFlightLedger
from embed_star.produce.notifier import Notifier
from tests.support.servers import PROMPT_S, eventually

Ring = Callable[[bool], None]


class ScriptedLedger(MemoryInFlightLedger):
    """Says what the test lets it say, in the test's own thread."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Ring] = []
        self.over = threading.Event()

    def listen(self, ring: Ring, stopped: Callable[[], bool]) -> None:
        self.listeners.append(ring)
        self.over.wait(PROMPT_S)

    def say(self, *, given_back: bool) -> None:
        for ring in self.listeners:
            ring(given_back)


class SilentConnection:
    """A live query in which nothing is written."""

    def listen(self, table: str) -> UUID:
        return uuid4()

    def unlisten(self, live_id: UUID) -> None:
        """Nothing to end."""

    def next_notification(self, timeout_s: float) -> bool:
        threading.Event().wait(min(timeout_s, 0.01))
        return False

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def started(*, live: bool) -> Iterator[tuple[Notifier, ScriptedLedger]]:
    ledger = ScriptedLedger()
    notifier = Notifier(ledger, SilentConnection if live else None, poll_s=1.0)
    notifier.start()
    try:
        eventually(lambda: bool(ledger.listeners), "it listens to the ledger")
        if live:
            notifier.listen_to_writes(True)
            assert notifier.wait(PROMPT_S)  # at the start of the live query
        notifier.clear()
        yield notifier, ledger
    finally:
        ledger.over.set()
        notifier.stop()
        notifier.join()


@pytest.mark.parametrize("live", [True, False], ids=["live query", "no live query"])
def test_a_finished_run_wakes_who_left_rows(live: bool) -> None:
    with started(live=live) as (notifier, ledger):
        notifier.heed_runs(True)
        ledger.say(given_back=False)
        assert notifier.wait(0)


def test_a_finished_run_wakes_nobody_who_left_none_and_hears_of_writes() -> None:
    with started(live=True) as (notifier, ledger):
        notifier.heed_runs(False)
        ledger.say(given_back=False)
        assert not notifier.wait(0)
        ledger.say(given_back=True)
        assert notifier.wait(0)
        assert notifier.rows_were_given_back()


def test_without_a_live_query_each_finished_run_is_a_look() -> None:
    with started(live=False) as (notifier, ledger):
        notifier.heed_runs(False)
        ledger.say(given_back=False)
        assert notifier.wait(0)
