"""The provider is down, or refuses the key: the fleet leaves it alone, and comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from embed_star.calls import PROBE_TEXT
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.servers import eventually

ROWS = 200
OPEN_S = 1.0
FAILURES = 3
CALLS = 6
"""In flight in the whole fleet: two workers with three each."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def tenant(fleet: Fleet) -> Iterator[Tenant]:
    fleet.provider.reset()
    made = fleet.tenant(BATCH_SIZE="5", BREAKER_FAILURES=str(FAILURES), BREAKER_OPEN_S=str(OPEN_S))
    yield made
    made.stop()


@pytest.mark.parametrize(("status", "most"), [(503, FAILURES + CALLS), (401, CALLS)])
def test_an_outage_costs_a_probe_in_each_period(tenant: Tenant, status: int, most: int) -> None:
    provider, lab = tenant.provider, tenant.lab
    provider.script(fail_next=-1, status=status)
    workers = [tenant.worker() for _ in range(2)]
    lab.insert(ROWS)
    producer = tenant.producer()
    began = time.monotonic()

    def probes() -> list[list[str]]:
        return [entry["texts"] for entry in provider.ledger() if entry["texts"] == [PROBE_TEXT]]

    eventually(lambda: len(probes()) >= 3, "it is probed")
    passed_s = time.monotonic() - began
    assert len(probes()) <= passed_s / OPEN_S + 1
    assert len(provider.ledger()) - len(probes()) <= most
    eventually(lambda: lab.report().locks == 0, "no row is locked")
    assert lab.report().failed == {}
    provider.script(fail_next=0)
    back = time.monotonic()
    lab.await_quiet()
    assert time.monotonic() - back < OPEN_S + 5.0
    report = lab.report()
    report.assert_kept()
    assert report.embedded == ROWS
    events = [line["event"] for worker in workers for line in log_lines(worker)]
    assert "provider_paused" in events
    assert events.count("provider_resumed") == 1
    assert "batch_failed" not in events
    assert not producer.ended.is_set()


def test_rows_that_break_the_provider_keep_no_others_from_it(tenant: Tenant) -> None:
    """They are first in the queue each time, and yet the rest is done."""
    tenant.provider.script(crash="crash")
    tenant.worker()
    lab = tenant.lab
    bad = lab.insert(5 * FAILURES, description="crash")
    good = lab.insert(50)
    tenant.producer()
    eventually(lambda: lab.embedded(good) == len(good), "the good ones are done", 40.0)
    assert lab.embedded(bad) == 0
