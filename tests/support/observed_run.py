"""A fleet that Prometheus watches, and a run in which much happens to it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from embed_star.devstack.servers import free_port
from embed_star.values import RecordID
from tests.support.fleet import Fleet, Tenant
from tests.support.prometheus import Prometheus
from tests.support.servers import eventually

SETTINGS = {
    "BATCH_SIZE": "10",
    "PARALLEL_WORKERS": "3",
    "PROVIDER_REQUESTS_PER_MINUTE": "3000",
    "PROVIDER_PRICE_PER_MILLION_TOKENS": "0.13",
    "BREAKER_OPEN_S": "3",
    "SWEEP_INTERVAL_S": "5",
    "MONITORING_HOST": "127.0.0.1",
}
WORKERS = 2
CALL_MS = 250
ROWS_S = WORKERS * 3 * 10 * 1000 // CALL_MS
"""What the workers can do: both with 3 calls of 10 rows at once."""

POISON = "unspeakable"


class Observed(NamedTuple):
    tenant: Tenant
    prometheus: Prometheus


@contextmanager
def observed(folder: Path) -> Iterator[Observed]:
    """Two producers, two workers and a beat, all answering, and the Prometheus."""
    jobs = {"embed-star-producer": 2, "embed-star-worker": WORKERS, "embed-star-beat": 1}
    ports = {job: [free_port() for _ in range(count)] for job, count in jobs.items()}
    with Fleet(folder) as fleet:
        tenant = fleet.tenant(**SETTINGS)
        for port in ports["embed-star-worker"]:
            tenant.worker(MONITORING_PORT=str(port))
        for port in ports["embed-star-producer"]:
            tenant.producer(MONITORING_PORT=str(port))
        tenant.beat(MONITORING_PORT=str(ports["embed-star-beat"][0]))
        with Prometheus(folder / "prometheus", ports) as prometheus:
            yield Observed(tenant, prometheus)


class Story:
    """What happens to the fleet, each part for so long; a user writes rows all the time."""

    def __init__(self, tenant: Tenant, part_s: float) -> None:
        self._lab = tenant.lab
        self._provider = tenant.provider
        self._part_s = part_s
        self._known: list[int] = []
        self._copies = itertools.count(1_000_000)

    def tell(self) -> None:
        """All of it, to the point where nothing is pending."""
        self._provider.script(latency_ms=CALL_MS, poison=POISON)
        self._write_for(1)
        self._backfill(rows=round(1.5 * self._part_s * ROWS_S))
        self._write_for(1)
        self._lab.insert(max(12, round(self._part_s)), description=f"an {POISON} row")
        self._write_for(0.5)
        # It bears less than it says.
        self._provider.script(fail_next=3, status=429, retry_after="1")
        self._write_for(1)
        self._provider.script(fail_next=0)
        self._write_for(0.5)
        self._provider.script(fail_next=-1, status=503)
        eventually(self._is_paused, "the provider is paused", 60.0)
        self._write_for(1)
        self._provider.script(fail_next=0)
        self._write_for(1)
        self._write_again(rows=round(self._part_s * ROWS_S / 4))
        self._write_for(1)
        self._lab.await_quiet(300.0)

    def _is_paused(self) -> bool:
        self._write_for(0.1)  # only calls can fail
        return self._lab.services.breaker.state().retry_in_s > 0

    def _write_for(self, parts: float) -> None:
        """Fresh rows, ten a second."""
        until = time.monotonic() + parts * self._part_s
        while (left := until - time.monotonic()) > 0:
            self._known += self._lab.insert(5)
            time.sleep(min(0.5, left))

    def _backfill(self, rows: int) -> None:
        for _ in range(0, rows, 500):
            keys = self._lab.reserve(500)
            self._lab.query(
                "LET $embed_star_lane = 1; INSERT INTO repo $rows RETURN NONE",
                rows=[
                    {"id": RecordID("repo", key), "full_name": f"old/project{key}"} for key in keys
                ],
            )

    def _write_again(self, rows: int) -> None:
        """Rows whose text has been embedded before: forks and mirrors."""
        (found,) = self._lab.query(
            "SELECT full_name, description, language, topics FROM $ids",
            ids=[RecordID("repo", key) for key in self._known[-rows:]],
        )
        self._lab.write({next(self._copies): fields for fields in found})
