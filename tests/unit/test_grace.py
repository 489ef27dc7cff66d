"""The end of a process, in its steps."""

from __future__ import annotations

import threading
import time

import pytest

from embed_star.errors import ShuttingDown
from embed_star.shutdown import Shutdown

PROMPT_S = 5.0
NEVER_S = 3600.0


class Steps:
    """Events for the steps of a grace."""

    def __init__(self, grace: Shutdown, end_s: float) -> None:
        self.begun, self.over, self.ended = (threading.Event() for _ in range(3))
        grace.watch(
            on_begin=self.begun.set, on_over=self.over.set, on_end=self.ended.set, end_s=end_s
        )


def test_one_request_begins_a_second_one_ends_the_grace() -> None:
    grace = Shutdown(NEVER_S)
    steps = Steps(grace, NEVER_S)
    grace.check()
    grace.request()
    assert steps.begun.wait(PROMPT_S)
    assert grace.begun
    assert not steps.over.wait(0.1)
    grace.request()
    assert steps.over.wait(PROMPT_S)
    assert not steps.ended.is_set()


def test_work_is_aborted_when_the_grace_is_over() -> None:
    steps = Steps(grace := Shutdown(0.0), 0.0)
    grace.request()
    assert all(event.wait(PROMPT_S) for event in (steps.begun, steps.over, steps.ended))


def test_a_step_that_hangs_or_fails_puts_off_no_other() -> None:
    grace, ended = Shutdown(0.0), threading.Event()

    def fail() -> None:
        raise ValueError

    grace.watch(on_begin=lambda: time.sleep(NEVER_S), on_over=fail, on_end=ended.set, end_s=0.0)
    grace.request()
    assert ended.wait(PROMPT_S)


@pytest.mark.parametrize("what", ["sleep", "slot"])
def test_waits_end_at_once(what: str) -> None:
    grace = Shutdown(NEVER_S)
    grace.watch()
    slots = threading.BoundedSemaphore(1)
    assert slots.acquire()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            if what == "sleep":
                grace.wait(NEVER_S)
            else:
                grace.acquire(slots)
        except ShuttingDown as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    grace.request()
    waiting.join(PROMPT_S)
    assert len(errors) == 1
    slots.release()  # none was taken
    with pytest.raises(ShuttingDown):
        grace.acquire(slots)
