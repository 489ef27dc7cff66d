"""How many calls a worker has at once, while a provider over HTTP takes more and fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_star.devstack.servers import free_port
from embed_star.providers.catalogue import FIRST_CALLS, MOST_CALLS
from tasks.worker.concurrency import SPARE_THREADS
from tests.support.fleet import Fleet, Tenant
from tests.support.metrics_page import Scrape
from tests.support.servers import eventually

PHASE_S = 120.0
LATENCY_MS = 150.0
BATCH_ROWS = 2
"""Small, so that the worker has time for many calls on a busy machine."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


class Feeding:
    """Rows enough that the calls never run out, as long as a phase needs them."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self.rows = 0

    def until(self, what: Callable[[], bool], doing: str) -> None:
        def look() -> bool:
            counts = self._tenant.lab.services.ledger.counts()
            if self.rows - counts.finished_total < 40 * MOST_CALLS:
                self.rows += len(self._tenant.lab.insert(500))
            return what()

        eventually(look, doing, PHASE_S)


def test_it_follows_what_the_provider_takes_and_nothing_is_lost_or_paid_twice(fleet: Fleet) -> None:
    tenant = fleet.tenant(BATCH_SIZE=str(BATCH_ROWS), PARALLEL_WORKERS="auto")
    provider, lab = fleet.provider, tenant.lab
    provider.script(latency_ms=LATENCY_MS)
    port = free_port()
    tenant.worker(MONITORING_PORT=str(port))
    tenant.producer()
    feeding = Feeding(tenant)

    def allowed() -> float:
        labels = {"provider": "openai", "model": tenant.settings.model}
        return Scrape(port).value("provider_calls_allowed", **labels) or 0.0

    feeding.until(lambda: allowed() == MOST_CALLS, "calls take no longer: as many as there may be")
    feeding.until(lambda: provider.stats()["concurrent"] > MOST_CALLS // 2, "they are made")
    provider.script(serves=2)
    feeding.until(lambda: allowed() <= 5, "calls wait for each other: fewer of them")
    provider.script(serves=0)
    feeding.until(lambda: allowed() >= 10, "they do not any more: more of them")
    provider.script(most_at_once=4, retry_after="1")
    feeding.until(lambda: allowed() <= 4, "a fifth one gets 429: fewer of them")
    throttled = sum(one["status"] == 429 for one in provider.ledger())
    lab.await_quiet(PHASE_S)
    # Those that were on their way when it fell, and a few when it tries a fifth one again.
    again = sum(one["status"] == 429 for one in provider.ledger()) - throttled
    assert again <= 2 * MOST_CALLS
    lab.report().assert_kept()


def test_a_number_that_was_set_stays(fleet: Fleet) -> None:
    tenant = fleet.tenant(BATCH_SIZE="4", PARALLEL_WORKERS="2")
    provider = fleet.provider
    provider.script(latency_ms=20.0)
    port = free_port()
    tenant.worker(MONITORING_PORT=str(port))
    tenant.lab.insert(200)
    tenant.producer()
    tenant.lab.await_quiet()
    assert provider.stats()["max_concurrent"] == 2
    assert max(len(one["texts"]) for one in provider.ledger()) == 4
    labels = {"provider": "openai", "model": tenant.settings.model}
    assert Scrape(port).value("provider_calls_allowed", **labels) == 2
    tenant.lab.report().assert_kept()


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        ((), MOST_CALLS + SPARE_THREADS),
        (("-c", "7"), 7),
        (("-P", "processes"), FIRST_CALLS + SPARE_THREADS),
    ],
)
def test_the_pool_has_threads_for_the_most_calls_and_few_processes(
    fleet: Fleet, options: tuple[str, ...], slots: int
) -> None:
    tenant = fleet.tenant(PARALLEL_WORKERS="auto")
    tenant.worker(*options)
    found: dict[str, Any] = {}

    def answers() -> bool:
        found.update(app.control.inspect(timeout=1.0).stats() or {})
        return bool(found)

    with tenant.app() as app:
        eventually(answers, "the worker answers", PHASE_S)
    (stats,) = found.values()
    assert stats["pool"]["max-concurrency"] == slots


def test_a_row_alone_is_asked_alone_and_at_once(fleet: Fleet) -> None:
    tenant = fleet.tenant(BATCH_SIZE="auto", PARALLEL_WORKERS="auto")
    tenant.worker()
    tenant.producer()
    for rows in (1, 1, 30):
        tenant.lab.insert(rows)
        tenant.lab.await_quiet()
    asked = [len(one["texts"]) for one in fleet.provider.asked()]
    assert asked[:2] == [1, 1]
    assert sum(asked) == 32
    tenant.lab.report().assert_kept()
