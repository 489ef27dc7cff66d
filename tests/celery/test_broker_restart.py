"""Redis goes away and comes back: workers and producers live through it, and work on.

Three tenants live for the whole module, each with a worker and a producer, and see every
outage: one idle, one with calls under way, one with calls under way in a prefork pool.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from embed_star.stack.processes import Child
from tests.support.fleet import Fleet, Tenant

ROWS = 30
CRASH_S = 0.0
"""A grace of nothing: SIGKILL."""
ORDERLY_S = 10.0
PREFORK = ("-P", "processes", "-c", "3")


@dataclass(frozen=True, slots=True)
class Side:
    tenant: Tenant
    worker: Child
    producer: Child
    busy: bool

    def assert_alive(self) -> None:
        for child in (self.worker, self.producer):
            assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()[-3000:]}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), memory=False) as running:
        yield running


@pytest.fixture(scope="module")
def sides(fleet: Fleet) -> list[Side]:
    made = []
    for busy, pool in ((False, ()), (True, ()), (True, PREFORK)):
        tenant = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2")
        made.append(Side(tenant, tenant.worker(*pool), tenant.producer(), busy))
    return made


@pytest.mark.parametrize("away_s", [0.1, 2.0])
@pytest.mark.parametrize("grace_s", [CRASH_S, ORDERLY_S], ids=["crash", "orderly"])
def test_they_live_through_it(
    fleet: Fleet, sides: list[Side], grace_s: float, away_s: float
) -> None:
    fleet.provider.reset()
    fleet.provider.script(latency_ms=700)
    for side in sides:
        if side.busy:
            side.tenant.lab.insert(ROWS)
    sides[0].tenant.lab.await_asked(calls=2)
    fleet.servers.stop_server("redis", grace_s=grace_s)
    time.sleep(away_s)  # how long it is away is what differs
    fleet.servers.start_server("redis")
    fleet.provider.script(latency_ms=0)
    for side in sides:
        side.tenant.lab.insert(ROWS)
    for side in sides:
        side.tenant.lab.await_quiet()
        side.assert_alive()
        # What was in flight, and what Redis may have lost of its last second.
        side.tenant.lab.report().assert_kept(paid_again=ROWS if side.busy else 0, hits=1)
