"""A worker that dies or stands still, and a Redis that forgets: long before any lock ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from embed_star.devstack.processes import Child
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.servers import eventually

BATCH_ROWS = 5
SOON_S = 60.0
"""Less than locks last here, and enough for a busy machine."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def tenant(fleet: Fleet) -> Iterator[Tenant]:
    """A tenant whose locks and redelivery are no help."""
    fleet.provider.reset()
    tenant = fleet.tenant(
        BATCH_SIZE=str(BATCH_ROWS),
        CHORD_BATCHES="4",
        PARALLEL_WORKERS="2",
        PROVIDER_TOTAL_TIMEOUT_S="30",
        LOCK_TTL_S="200",
        VISIBILITY_TIMEOUT_S="400",
    )
    yield tenant
    tenant.stop()
    fleet.provider.reset()


def lines(child: Child, event: str) -> int:
    return sum(line.get("event") == event for line in log_lines(child))


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_the_messages_of_a_killed_worker_go_to_another_one(tenant: Tenant, pool: str) -> None:
    tenant.provider.script(latency_ms=25_000)  # until after it is killed
    doomed = tenant.worker("-P", pool, "-c", "4")
    producer = tenant.producer()
    tenant.lab.insert(4 * BATCH_ROWS)
    tenant.lab.await_asked(2)
    tenant.worker("-P", pool, "-c", "4")
    doomed.kill()
    tenant.provider.script(latency_ms=0)
    tenant.lab.await_quiet(SOON_S)
    assert lines(producer, "worker_given_up") == 1
    assert lines(producer, "run_lost") == 0
    # Each child of a pool of processes has calls of its own.
    tenant.lab.report().assert_kept(paid_again=4 * BATCH_ROWS, hits=1)


def test_a_worker_that_stood_still_pays_for_nothing_that_another_one_has(tenant: Tenant) -> None:
    tenant.provider.script(latency_ms=1500)
    frozen = tenant.worker("-c", "4")
    producer = tenant.producer()
    tenant.lab.insert(8 * BATCH_ROWS)
    tenant.lab.await_asked(2)
    os.killpg(frozen.pid, signal.SIGSTOP)
    try:
        other = tenant.worker("-c", "4")
        tenant.provider.script(latency_ms=0)
        tenant.lab.await_quiet(SOON_S)
    finally:
        os.killpg(frozen.pid, signal.SIGCONT)
    assert lines(producer, "worker_given_up") == 1
    eventually(lambda: lines(frozen, "batch_taken_over") > 0, "it knows", SOON_S)
    tenant.lab.insert(2 * BATCH_ROWS)
    tenant.lab.await_quiet(SOON_S)
    assert not frozen.ended.is_set()
    assert not other.ended.is_set()
    tenant.lab.report().assert_kept(paid_again=2 * BATCH_ROWS, hits=1)


def test_rows_that_no_worker_has_are_claimed_anew_when_redis_has_forgotten_them(
    tenant: Tenant,
) -> None:
    tenant.provider.script(latency_ms=1500)
    tenant.worker("-c", "4")
    producer = tenant.producer()
    tenant.lab.insert(8 * BATCH_ROWS)
    tenant.lab.await_asked(2)
    tenant.lab.services.redis.flushall()
    tenant.provider.script(latency_ms=0)
    tenant.lab.await_quiet(SOON_S)
    assert lines(producer, "run_lost") > 0
    assert lines(producer, "worker_given_up") == 0
    tenant.lab.report().assert_kept(paid_again=2 * BATCH_ROWS, hits=1)


def test_a_worker_that_ends_in_good_order_is_missed_by_nobody(tenant: Tenant) -> None:
    worker = tenant.worker()
    workers = tenant.lab.services.workers
    eventually(lambda: len(workers.look().beats) == 1, "it beats")
    tenant.stop()
    assert worker.ended.is_set()
    assert workers.look().beats == {}
