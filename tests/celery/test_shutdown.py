"""Processes that are told to stop: what runs may finish, the rest is another one's at once.

Locks, redelivery and leases are long here, so that nothing but handing back can explain
that rows are done in seconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from embed_star.devstack.processes import Child
from embed_star.timings import SHUTDOWN_MARGIN_S
from tests.support.fleet import STOP_S, Fleet, Tenant, log_lines
from tests.support.own_time import ends_within
from tests.support.proxy import Proxy
from tests.support.servers import eventually

BATCH_ROWS = 5
RUN_BATCHES = 3
ROWS = BATCH_ROWS * RUN_BATCHES
GRACE_S = 1.0
SOON_S = 10.0
"""For another process to have the work: far less than any time-out below."""
PATIENT = {
    "PROVIDER_TOTAL_TIMEOUT_S": "40",
    "LOCK_TTL_S": "100",
    "VISIBILITY_TIMEOUT_S": "200",
    "LEADER_LEASE_S": "60",
}
THREADS = ("-c", "5")
PREFORK = ("-P", "processes", "-c", "3")
POOLS = pytest.mark.parametrize("pool", [THREADS, PREFORK], ids=["threads", "processes"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def tenant(fleet: Fleet) -> Iterator[Tenant]:
    fleet.provider.reset()
    made = fleet.tenant(BATCH_SIZE=str(BATCH_ROWS), CHORD_BATCHES=str(RUN_BATCHES), **PATIENT)
    yield made
    fleet.provider.reset()
    made.stop()


def send(child: Child, *signals: signal.Signals) -> None:
    for number in signals:
        os.kill(child.pid, number)


def await_end(child: Child, within_s: float) -> None:
    assert ends_within(child, within_s), (
        f"still there after {within_s:g} s:\n{child.output()[-4000:]}"
    )


def events(child: Child) -> list[str]:
    return [line["event"] for line in log_lines(child)]


def assert_another_does_the_rest(tenant: Tenant, producer: bool = True) -> None:
    """A new worker, and the producer, have the rows soon; nothing is left locked."""
    tenant.provider.script(latency_ms=0, fault=None)
    if producer:
        tenant.producer()
    tenant.worker()
    eventually(tenant.lab.is_quiet, "another worker has the rows", SOON_S)
    assert_nothing_locked(tenant)


def assert_nothing_locked(tenant: Tenant) -> None:
    def locked() -> list[bytes]:
        with redis.Redis.from_url(tenant.servers.redis_url) as client:
            names = client.keys(f"{tenant.lab.services.redis_prefix}lock:*")
        return [name for name in names if b"leader" not in name]

    eventually(lambda: not locked(), "no lock is left in Redis")
    assert tenant.lab.report().locks == 0


# Workers


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGINT,
        # 1.2 s until it is forced, of which one may be the pop under way.
        pytest.param(signal.SIGQUIT, marks=pytest.mark.alone),
    ],
)
def test_an_idle_worker_ends_at_once(tenant: Tenant, number: signal.Signals) -> None:
    worker = tenant.worker()
    send(worker, number)
    await_end(worker, SHUTDOWN_MARGIN_S + 3.0)  # of which one is the pop under way
    assert worker.returncode == 0
    assert "shutdown_forced" not in events(worker)


@POOLS
def test_a_call_that_ends_within_the_grace_is_paid_once(
    tenant: Tenant, pool: tuple[str, ...]
) -> None:
    tenant.provider.script(latency_ms=1500)
    worker = tenant.worker(*pool)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_asked(RUN_BATCHES)
    send(worker, signal.SIGTERM)
    await_end(worker, 8.0)
    assert worker.returncode == 0
    assert_another_does_the_rest(tenant, producer=False)
    assert len(tenant.provider.asked()) == RUN_BATCHES
    tenant.lab.report().assert_kept()


@POOLS
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_call_that_does_not_end_is_cut_off_and_given_back(
    tenant: Tenant, pool: tuple[str, ...], fault: str
) -> None:
    tenant.provider.script(fault=fault)
    worker = tenant.worker(*pool, SHUTDOWN_GRACE_S=str(GRACE_S))
    tenant.lab.insert(ROWS)
    producer = tenant.producer()
    tenant.lab.await_asked(RUN_BATCHES)
    send(worker, signal.SIGTERM)
    await_end(worker, GRACE_S + SHUTDOWN_MARGIN_S)
    assert_another_does_the_rest(tenant, producer=False)
    tenant.lab.report().assert_kept(paid_again=ROWS, hits=1)
    # It is nobody's fault: neither the provider's nor the rows'.
    assert not {"provider_paused", "batch_failed", "batch_deferred"} & set(events(worker))
    assert not producer.ended.is_set()


@POOLS
@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,), (signal.SIGINT, signal.SIGINT)],
    ids=["twice", "quit", "Ctrl-C twice"],
)
def test_a_second_signal_does_not_wait_for_the_grace(
    tenant: Tenant, pool: tuple[str, ...], signals: tuple[signal.Signals, ...]
) -> None:
    tenant.provider.script(fault="hang")
    worker = tenant.worker(*pool)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_asked(RUN_BATCHES)
    for number in signals:
        send(worker, number)
        eventually(lambda: "shutdown_begun" in events(worker), "the signal is heard")
    await_end(worker, SHUTDOWN_MARGIN_S + 1.0)
    assert_another_does_the_rest(tenant)
    tenant.lab.report().assert_kept(paid_again=ROWS, hits=1)


def test_a_batch_that_waits_to_be_tried_again_is_handed_back(tenant: Tenant) -> None:
    tenant.provider.script(fail_next=-1, status=429, retry_after="30")
    worker = tenant.worker()
    tenant.lab.insert(BATCH_ROWS)
    tenant.dispatch()
    eventually(lambda: any(" retry: " in event for event in events(worker)), "it is put off")
    with tenant.app() as app:
        inspect = app.control.inspect(timeout=1.0)
        eventually(lambda: any((inspect.scheduled() or {}).values()), "the worker holds it", SOON_S)
    send(worker, signal.SIGTERM)
    await_end(worker, SHUTDOWN_MARGIN_S + 3.0)
    name = f"{tenant.lab.services.redis_prefix}celery:"
    with redis.Redis.from_url(tenant.servers.redis_url) as client:
        waiting = sum(
            client.llen(key) for key in client.keys(f"{name}embed*") if client.type(key) == b"list"
        )
        assert (waiting, client.hlen(f"{name}unacked")) == (1, 0)


def test_a_batch_that_waits_for_the_rate_limit_ends_at_once(tenant: Tenant) -> None:
    # A slot in 20 s: one call is made, the others wait for theirs.
    limit = {"PROVIDER_REQUESTS_PER_MINUTE": "9"}
    worker = tenant.worker(**limit)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    eventually(lambda: len(tenant.provider.ledger()) == 1, "one is called")
    eventually(
        lambda: tenant.lab.services.ledger.counts().queued == 0, "the others are begun", SOON_S
    )
    send(worker, signal.SIGTERM)
    await_end(worker, SHUTDOWN_MARGIN_S + 3.0)
    assert_another_does_the_rest(tenant)
    assert sum(tenant.lab.report().paid.values()) == ROWS
    tenant.lab.report().assert_kept()


# Producer and beat


def test_a_producer_in_mid_claim_lets_the_standby_lead(tenant: Tenant) -> None:
    first = tenant.producer(BATCH_SIZE="1", CHORD_BATCHES="100")
    eventually(lambda: "leading" in events(first), "one leads", STOP_S)
    second = tenant.producer()
    eventually(lambda: "standing_by" in events(second), "the other one stands by", STOP_S)
    tenant.lab.insert(2000)
    eventually(lambda: tenant.lab.services.ledger.counts().in_flight > 0, "it claims", STOP_S)
    send(first, signal.SIGTERM)
    eventually(lambda: "leading" in events(second), "the other one leads", 3.0)
    await_end(first, SHUTDOWN_MARGIN_S)
    assert first.returncode == 0
    tenant.worker(BATCH_SIZE="100")
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    assert_nothing_locked(tenant)


def test_a_producer_whose_database_hangs_ends_within_its_grace(tenant: Tenant) -> None:
    port = int(tenant.settings.db_url.rsplit(":", 1)[1].split("/")[0])
    with Proxy(port) as proxy:
        producer = tenant.producer(
            DB_URL=f"ws://127.0.0.1:{proxy.port}", SHUTDOWN_GRACE_S=str(GRACE_S)
        )
        eventually(lambda: "leading" in events(producer), "it leads", STOP_S)
        proxy.freeze()
        tenant.lab.insert(1)
        time.sleep(1.5)  # it polls each second, and hangs then
        send(producer, signal.SIGTERM)
        await_end(producer, GRACE_S + SHUTDOWN_MARGIN_S)


def test_beat_ends_at_once(tenant: Tenant) -> None:
    beat = tenant.beat()
    eventually(lambda: "settings" in events(beat), "it runs", STOP_S)
    send(beat, signal.SIGTERM)
    await_end(beat, SHUTDOWN_MARGIN_S)
    assert beat.returncode == 0
