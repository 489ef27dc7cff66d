"""Something breaks in the middle of a fill: how long until all rows are written?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import requests

from bench.stack import AUTO, Bench, Shape, running, wait

ROWS = 5_000
STRUCK_AT = 1_500
"""Written rows when it happens."""
GOAL_S = 15.0
_TURNS = 3

SHAPE = Shape(
    batch_rows=10,
    chord_batches=10,
    workers=2,
    threads=3,
    latency_ms=300,
    settings={**AUTO, "LEADER_LEASE_S": "10"},
)
"""Two workers with the settings that nobody has changed."""


def recovery(figures: dict[str, float]) -> list[tuple[str, ...]]:
    """Seconds from each fault until every row has its vector; the median of some turns."""
    lines = []
    with running(SHAPE) as bench:
        for name, fault in FAULTS.items():
            taken = [_after(bench, fault) for _ in range(_TURNS)]
            median = statistics.median(taken)
            figures[f"recovery_{name.replace(' ', '_')}_s"] = median
            longest = f"longest {max(taken):.1f} s"
            what = f"{ROWS:,} rows, {name}: until all are written"
            lines.append((what, f"{median:.1f} s", longest, "", f"≤ {GOAL_S:.0f} s"))
    return lines


def _after(bench: Bench, fault: Callable[[Bench], None]) -> float:
    count = bench.services.store.vectors.count
    before = count()
    bench.insert_repos(ROWS)
    _await_vectors(count, before + STRUCK_AT)
    began = time.perf_counter()
    fault(bench)
    _await_vectors(count, before + ROWS)
    taken_s = time.perf_counter() - began
    wait(lambda: all(map(_ready, bench.stack.monitoring_ports.values())), poll_s=0.05)
    return taken_s


def _await_vectors(count: Callable[[], int], wanted: int) -> None:
    # Of the database, and not of Redis, which forgets its counts in some of the faults.
    wait(lambda: count() >= wanted, poll_s=0.05)


def _ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def _nothing(bench: Bench) -> None:
    """To compare with: the rest of the fill."""


def _kill_worker(bench: Bench) -> None:
    bench.stack.processes["worker1"].kill()


def _flush_redis(bench: Bench) -> None:
    bench.services.redis.flushall()


def _restart_redis(bench: Bench) -> None:
    """It comes back empty."""
    servers = bench.stack.servers
    # No longer there for the stack, which would stop everything for a server that ended.
    servers.processes.pop("redis").stop(0)
    servers.start_server("redis")


FAULTS = {
    "no fault": _nothing,
    "a worker killed": _kill_worker,
    "Redis flushed": _flush_redis,
    "Redis restarted empty": _restart_redis,
}
