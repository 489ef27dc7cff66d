"""The end of a process, in its steps."""

from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from embed_star.errors import ShuttingDown
from embed_star.shutdown import Shutdown
from tests.support.servers import eventually

PROMPT_S = 5.0
NEVER_S = 3600.0


class Steps:
    """Events for the steps of a shutdown."""

    def __init__(self, shutdown: Shutdown, end_s: float) -> None:
        self.begun, self.over, self.ended = (threading.Event() for _ in range(3))
        shutdown.watch(
            on_begin=self.begun.set, on_over=self.over.set, on_end=self.ended.set, end_s=end_s
        )


def test_one_request_begins_a_second_one_ends_the_grace() -> None:
    shutdown = Shutdown(NEVER_S)
    steps = Steps(shutdown, NEVER_S)
    shutdown.check()
    shutdown.request()
    assert steps.begun.wait(PROMPT_S)
    assert shutdown.begun
    assert not steps.over.wait(0.1)
    shutdown.request()
    assert steps.over.wait(PROMPT_S)
    assert not steps.ended.is_set()


def test_work_is_aborted_when_the_grace_is_over() -> None:
    steps = Steps(shutdown := Shutdown(0.0), 0.0)
    shutdown.request()
    assert all(event.wait(PROMPT_S) for event in (steps.begun, steps.over, steps.ended))


def test_a_step_that_hangs_or_fails_puts_off_no_other() -> None:
    shutdown, ended = Shutdown(0.0), threading.Event()

    def fail() -> None:
        raise ValueError

    # Waiting for the log line, too: a thread that logs later would do so in another test.
    with capture_logs() as logs:
        shutdown.watch(
            on_begin=lambda: time.sleep(NEVER_S), on_over=fail, on_end=ended.set, end_s=0.0
        )
        shutdown.request()
        assert ended.wait(PROMPT_S)
        eventually(lambda: logs, "the failure is logged")


@pytest.mark.parametrize("what", ["sleep", "slot"])
def test_waits_end_at_once(what: str) -> None:
    shutdown = Shutdown(NEVER_S)
    shutdown.watch()
    slots = threading.BoundedSemaphore(1)
    assert slots.acquire()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            if what == "sleep":
                shutdown.wait(NEVER_S)
            else:
                shutdown.acquire(slots)
        except ShuttingDown as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    shutdown.request()
    waiting.join(PROMPT_S)
    assert len(errors) == 1
    slots.release()  # none was taken
    with pytest.raises(ShuttingDown):
        shutdown.acquire(slots)
