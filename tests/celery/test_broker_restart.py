"""Redis goes away and comes back: workers and producers live through it, and work on.

Three tenants live for the whole module, each with a worker and a producer, and see every
outage: one idle, one with calls under way, one with calls under way in a prefork pool.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from embed_star.devstack.processes import Child
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.proxy import Proxy
from tests.support.servers import eventually

ROWS = 30
CRASH_S = 0.0
"""No grace period: SIGKILL."""
ORDERLY_S = 10.0
RECOVERED_S = 60.0
LONG_LOCK_S = 180
SOON_S = 90.0
"""Half of what long locks last, for the broker's own pauses between tries."""
PREFORK = ("-P", "processes", "-c", "3")
USUAL = {
    "PROVIDER_TOTAL_TIMEOUT_S": "30",
    "LOCK_TTL_S": "45",
    "VISIBILITY_TIMEOUT_S": "300",
    "LEADER_LEASE_S": "10",
    "REDIS_TIMEOUT_S": "5",
}
"""As by default."""


@dataclass(frozen=True, slots=True)
class Side:
    tenant: Tenant
    worker: Child
    producer: Child
    busy: bool

    def assert_alive(self) -> None:
        for child in (self.worker, self.producer):
            assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()[-3000:]}"

    def assert_recovered(self, within_s: float = RECOVERED_S) -> None:
        self.tenant.lab.await_quiet(within_s)
        self.assert_alive()
        # What was in flight, and what Redis may have lost of its last second.
        self.tenant.lab.report().assert_kept(paid_again=ROWS if self.busy else 0, hits=1)


def make_sides(fleet: Fleet, **env: str) -> list[Side]:
    made = []
    for busy, pool in ((False, ()), (True, ()), (True, PREFORK)):
        tenant = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2", **env)
        made.append(Side(tenant, tenant.worker(*pool), tenant.producer(), busy))
    return made


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), memory=False) as running:
        yield running


@pytest.fixture(scope="module")
def sides(fleet: Fleet) -> list[Side]:
    return make_sides(fleet)


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Fleet]:
    """Its Redis keeps nothing."""
    with Fleet(tmp_path, memory=True) as running:
        yield running


def load(fleet: Fleet, sides: list[Side]) -> None:
    """Calls under way where it is busy."""
    fleet.provider.reset()
    fleet.provider.script(latency_ms=700)
    for side in sides:
        if side.busy:
            side.tenant.lab.insert(ROWS)
    sides[0].tenant.lab.await_asked(calls=2)


def assert_recovered(fleet: Fleet, sides: list[Side]) -> None:
    """They do what was under way, and what is new."""
    fleet.provider.script(latency_ms=0)
    for side in sides:
        side.tenant.lab.insert(ROWS)
    for side in sides:
        side.assert_recovered()


@pytest.mark.parametrize("away_s", [0.1, 2.0, 10.0])
@pytest.mark.parametrize("grace_s", [CRASH_S, ORDERLY_S], ids=["crash", "orderly"])
def test_they_live_through_it(
    fleet: Fleet, sides: list[Side], grace_s: float, away_s: float
) -> None:
    load(fleet, sides)
    fleet.servers.stop_server("redis", grace_s=grace_s)
    time.sleep(away_s)  # how long it is away is what differs
    fleet.servers.start_server("redis")
    assert_recovered(fleet, sides)


def test_redis_is_flushed_in_the_middle_of_chords(fleet: Fleet, sides: list[Side]) -> None:
    load(fleet, sides)
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        client.flushall()
    assert_recovered(fleet, sides)


def test_redis_restarts_empty_and_all_times_are_as_by_default(forgetful: Fleet) -> None:
    sides = make_sides(forgetful, **USUAL)
    load(forgetful, sides)
    forgetful.servers.stop_server("redis", grace_s=CRASH_S)
    forgetful.servers.start_server("redis")
    assert_recovered(forgetful, sides)


def test_what_is_put_off_meanwhile_does_not_wait_for_its_locks(fleet: Fleet) -> None:
    fleet.provider.reset()
    fleet.provider.script(latency_ms=500, fail_next=-1, status=503)
    env = {**USUAL, "LOCK_TTL_S": str(LONG_LOCK_S), "BREAKER_FAILURES": "100"}
    tenant = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2", **env)
    worker = tenant.worker()
    tenant.lab.insert(10)
    tenant.dispatch()
    tenant.lab.await_asked(calls=2)
    fleet.servers.stop_server("redis", grace_s=CRASH_S)
    time.sleep(2.0)
    fleet.servers.start_server("redis")
    fleet.provider.script(latency_ms=0, fail_next=0)
    tenant.lab.await_quiet(SOON_S)
    assert not worker.ended.is_set()
    tenant.stop()


def test_a_pool_that_has_lost_track_of_its_children(fleet: Fleet) -> None:
    """As when several of them are killed at once."""
    fleet.provider.reset()
    tenant = fleet.tenant(BATCH_SIZE="5")
    worker = tenant.worker(*PREFORK, "-I", "tests.support.blocking")
    side = Side(tenant, worker, tenant.producer(), busy=False)
    with tenant.app() as app:
        # A worker is ready a moment before it hears what is said to all of them.
        eventually(lambda: app.control.ping(timeout=1.0), "the worker answers", RECOVERED_S)
        (answer,) = app.control.broadcast("mistake_children", reply=True, timeout=10.0)
    assert list(answer.values()) == [{"children": 3}]
    fleet.servers.stop_server("redis", grace_s=ORDERLY_S)
    fleet.servers.start_server("redis")
    tenant.lab.insert(ROWS)
    side.assert_recovered()
    tenant.stop()


def test_redis_is_half_open(fleet: Fleet) -> None:
    fleet.provider.reset()
    fleet.provider.script(latency_ms=700)
    address, _, port_and_database = fleet.servers.redis_url.rpartition(":")
    port, _, database = port_and_database.partition("/")
    with Proxy(int(port)) as proxy:
        url = f"{address}:{proxy.port}/{database}"
        tenant = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2", REDIS_URL=url)
        side = Side(tenant, tenant.worker(), tenant.producer(), busy=True)
        tenant.lab.insert(ROWS)
        tenant.lab.await_asked(calls=2)
        proxy.freeze()
        # Publishing is bounded: the producer says that it waits, and goes on trying.
        eventually(
            lambda: any(line["event"] == "producer_waits" for line in log_lines(side.producer)),
            "the producer notices",
            RECOVERED_S,
        )
        proxy.strand()
        assert_recovered(fleet, [side])
        tenant.stop()
