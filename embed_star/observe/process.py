"""Metrics of a process: its version, its embedding space and its connection pool."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric

from embed_star import __version__
from embed_star.models import Space
from embed_star.observe.metrics import PREFIX
from embed_star.store.client.pool import PoolStats


class PoolMetrics:
    """The connections of this process to SurrealDB; with `-P processes`, of all children."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            # `livesum`: a dead child holds no connection.
            return Gauge(PREFIX + name, meaning, registry=registry, multiprocess_mode="livesum")

        def counter(name: str, meaning: str) -> Counter:
            return Counter(PREFIX + name, meaning, registry=registry)

        self._active = gauge("pool_connections_active", "SurrealDB connections in use")
        self._idle = gauge("pool_connections_idle", "Connections open and not in use")
        self._waiting = gauge("pool_connections_waiting", "Threads waiting for a connection")
        self._totals = {
            "created_total": counter("pool_connections_created", "Connections opened"),
            "recycled_total": counter(
                "pool_connections_recycled", "Connections closed for their age"
            ),
            "errors_total": counter(
                "pool_connection_errors", "Discarded after an error, and failures to connect"
            ),
            "health_check_failures_total": counter(
                "pool_health_check_failures", "Readiness probes that SurrealDB did not answer"
            ),
        }
        self._syncing = threading.Lock()
        self._last = (os.getpid(), PoolStats())

    def sync(self, stats: PoolStats) -> None:
        """Set the metrics to the pool's numbers in this process."""
        with self._syncing:
            pid, last = self._last
            if pid != os.getpid():  # forked: the child's pool is another one
                last = PoolStats()
            self._active.set(stats.active)
            self._idle.set(stats.idle)
            self._waiting.set(stats.waiting)
            for name, total in self._totals.items():
                now, before = getattr(stats, name), getattr(last, name)
                total.inc(now - before if now >= before else now)  # else: a new pool
            self._last = (os.getpid(), stats)


class Information:
    """Version and space, as labels of constant gauges. A collector."""

    def __init__(self, space: Space) -> None:
        self._build = GaugeMetricFamily(
            PREFIX + "build_info", "The version that runs", labels=("version", "python")
        )
        self._build.add_metric((__version__, platform.python_version()), 1)
        self._space = GaugeMetricFamily(
            PREFIX + "space_info",
            "The embedding space that it works in",
            labels=("space", "provider", "model", "dimensions"),
        )
        labels = (space.name, space.provider, space.model, str(space.dimensions))
        self._space.add_metric(labels, 1)

    def collect(self) -> Iterator[Metric]:
        yield self._build
        yield self._space


class BeforeScrape:
    """A collector without metrics: it runs an action before later collectors are asked."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def collect(self) -> Iterator[Metric]:
        self._action()
        return iter(())
