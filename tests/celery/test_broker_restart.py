"""Redis goes away and comes back: workers and producers live through it, and work on.

Each pool has a tenant, with a worker and a producer that live for the whole module: they
see every outage. An outage hits both, whether idle or with calls under way.
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
POOLS = {"threads": (), "prefork": ("-P", "processes", "-c", "3")}


@dataclass(frozen=True, slots=True)
class Side:
    tenant: Tenant
    worker: Child
    producer: Child

    def assert_alive(self) -> None:
        for child in (self.worker, self.producer):
            assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()[-3000:]}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), memory=False) as running:
        yield running


@pytest.fixture(scope="module")
def sides(fleet: Fleet) -> dict[str, Side]:
    made = {}
    for pool, options in POOLS.items():
        tenant = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2")
        made[pool] = Side(tenant, tenant.worker(*options), tenant.producer())
    return made


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("away_s", [0.1, 2.0])
@pytest.mark.parametrize("grace_s", [CRASH_S, ORDERLY_S], ids=["crash", "orderly"])
def test_they_live_through_it(
    fleet: Fleet, sides: dict[str, Side], grace_s: float, away_s: float, busy: bool
) -> None:
    fleet.provider.reset()
    fleet.provider.script(latency_ms=400 if busy else 0)
    labs = [side.tenant.lab for side in sides.values()]
    if busy:
        for lab in labs:
            lab.insert(ROWS)
        labs[0].await_asked(calls=2 * len(labs))
    fleet.servers.stop_server("redis", grace_s=grace_s)
    time.sleep(away_s)  # how long it is away is what differs
    fleet.servers.start_server("redis")
    fleet.provider.script(latency_ms=0)
    for lab in labs:
        lab.insert(ROWS)
    for side in sides.values():
        side.tenant.lab.await_quiet()
        side.assert_alive()
        report = side.tenant.lab.report()
        # What was in flight, and what Redis may have lost of its last second.
        report.assert_kept(paid_again=ROWS if busy else 0, hits=1)
