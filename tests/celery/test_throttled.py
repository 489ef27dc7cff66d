"""A provider that answers 429: rows and attempts are not blamed, and everybody waits."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, log_lines


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


def test_more_often_than_there_are_attempts(fleet: Fleet) -> None:
    tenant = fleet.tenant(BATCH_SIZE="10", RETRY_MAX="1")
    fleet.provider.script(fail_next=4, status=429, retry_after="1")
    worker = tenant.worker()
    tenant.lab.insert(10)
    tenant.dispatch()
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    ledger = fleet.provider.ledger()
    # After the second, our own text is asked first: is it these texts, or everybody's limit?
    assert [one["status"] for one in ledger] == [429] * 4 + [200, 200]
    assert [len(one["texts"]) for one in ledger] == [10, 10, 1, 1, 1, 10]
    times = [one["at"] for one in ledger]
    # After each 429; our own text once answered, the batch follows at once.
    assert all(after - before >= 0.99 for before, after in itertools.pairwise(times[:5]))
    assert Counter(line.get("event") for line in log_lines(worker))["batch_deferred"] == 0
