"""Values read in the background: fresh for a while, never waited for, never a lie."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from embed_star.errors import StoreUnavailable
from embed_star.observe.sampler import KEPT_S, WORTH, Sampler

FRESH_S = 5.0
LATE_S = 10.0


class Source:
    """What is read: numbers that count up; or an error, or a wait for the test's word."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reads = 0
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.reader: Sampler[int] = Sampler(
            self.read, fresh_s=FRESH_S, late_s=LATE_S, clock=lambda: self.now
        )

    def read(self) -> int:
        self.reads += 1
        assert self.go_on.wait(10)
        self.now += self.takes_s
        if self.error:
            raise self.error
        return self.reads

    def get(self, deadline_s: float = 10.0) -> int | None:
        return self.reader.get(deadline_s).value


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.go_on.set()


def test_is_read_again_only_when_it_is_no_longer_fresh(source: Source) -> None:
    assert (source.get(), source.get()) == (1, 1)
    source.now += FRESH_S
    assert source.get() == 2


def test_a_value_that_took_long_is_kept_longer(source: Source) -> None:
    source.takes_s = 2.0
    assert source.get() == 1
    source.now += 2.0 * WORTH - 0.1
    assert source.get() == 1
    source.now += 0.2
    assert source.get() == 2


def test_an_error_is_no_value_and_is_not_repeated_at_once(source: Source) -> None:
    source.error = StoreUnavailable("it is away")
    found = source.reader.get(10)
    assert (found.value, found.reason) == (None, "it is away")
    assert source.get() is None
    assert (source.reads, source.reader.failures) == (1, 1)
    source.error = None
    source.now += FRESH_S
    assert source.get() == 2


def test_a_bug_is_no_value_either(source: Source) -> None:
    source.error = KeyError("x")
    assert "KeyError" in source.reader.get(10).reason


def test_while_it_takes_long_the_last_value_is_given_out_until_it_is_late(source: Source) -> None:
    assert source.get() == 1
    source.now += FRESH_S
    source.go_on.clear()
    assert source.get(deadline_s=0.01) == 1
    source.now += LATE_S - 0.1
    assert source.get(deadline_s=0.01) == 1
    source.now += 0.2
    assert source.get(deadline_s=0.01) is None
    assert source.get(deadline_s=0.01) is None
    assert (source.reads, source.reader.failures) == (2, 1)


def test_an_old_value_is_not_given_out(source: Source) -> None:
    assert source.get() == 1
    source.now += KEPT_S + 1
    source.go_on.clear()
    assert source.get(deadline_s=0.01) is None


def test_renewing_does_not_wait(source: Source) -> None:
    source.go_on.clear()
    source.reader.renew()
    source.reader.renew()
    source.go_on.set()
    assert source.get() == 1
