"""The provider is down, or refuses the key: the fleet leaves it alone, and comes back by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from embed_star.calling.gateway import PROBE_TEXT
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


@pytest.mark.parametrize(
    ("status", "most", "asked"), [(503, FAILURES + CALLS, CALLS), (401, CALLS, CALLS)]
)
def test_an_outage_costs_a_probe_in_each_period(
    tenant: Tenant, status: int, most: int, asked: int
) -> None:
    """`asked` is how many of the calls in flight may ask once whose fault their failure was."""
    provider, lab = tenant.provider, tenant.lab
    provider.script(fail_next=-1, status=status)
    workers = [tenant.worker() for _ in range(2)]
    lab.insert(ROWS)
    began = time.monotonic()
    producer = tenant.producer()

    def probes() -> list[list[str]]:
        return [entry["texts"] for entry in provider.ledger() if entry["texts"] == [PROBE_TEXT]]

    eventually(lambda: len(probes()) >= 3 + asked, "it is probed", 20.0)
    passed_s = time.monotonic() - began
    assert len(probes()) <= passed_s / OPEN_S + 1 + asked
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
    """They are first in the queue, more than it takes to pause the provider."""
    tenant.provider.script(crash="crash")
    worker = tenant.worker()
    lab = tenant.lab
    lab.insert(2 * FAILURES, description="crash")
    good = lab.insert(50)
    tenant.producer()
    lab.await_quiet()
    report = lab.report()
    report.assert_kept()
    assert report.embedded == len(good)
    assert Counter(report.failed.values()) == {"crashes_provider": 2 * FAILURES}
    assert "provider_paused" not in [line["event"] for line in log_lines(worker)]


def test_a_provider_that_fails_at_random_costs_no_row_anything(fleet: Fleet) -> None:
    fleet.provider.reset()
    tenant = fleet.tenant(BATCH_SIZE="5", BREAKER_FAILURES="1000")
    fleet.provider.script(flaky=0.3)
    tenant.worker()
    tenant.lab.insert(ROWS)
    tenant.producer()
    tenant.lab.await_quiet()
    report = tenant.lab.report()
    report.assert_kept()
    assert report.embedded == ROWS
    failed = [entry for entry in fleet.provider.ledger() if entry["fault"] == "crash"]
    assert len(failed) > ROWS / 5 * 0.3
    tenant.stop()
