"""Metrics and probes of each process, wired over its services."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.gc_collector import GCCollector
from redis.exceptions import RedisError

from embed_star import timings
from embed_star.coordination.client import check_writes
from embed_star.errors import EmbedStarError, SchemaError
from embed_star.events import Event, Listeners
from embed_star.models import Lane
from embed_star.observe.fleet import DatabaseFacts, FleetGauges, RedisFacts
from embed_star.observe.health import Heartbeat, Live, Missing, Readiness, liveness
from embed_star.observe.metrics import PREFIX, DispatchMetrics
from embed_star.observe.process import BeforeScrape, Information, PoolMetrics
from embed_star.observe.server import MonitoringServer
from embed_star.services import Services
from embed_star.settings import Settings
from embed_star.store.tables.checkpoints import SWEPT


def producer_heartbeat(settings: Settings) -> Heartbeat:
    """The producer's heartbeat. Its timeout includes one wait for the database."""
    return Heartbeat(timings.LIVENESS_TIMEOUT_S + settings.timings.db_longest_s)


@contextmanager
def monitor_producer(
    services: Services, listeners: Listeners, heartbeat: Heartbeat, leading: Callable[[], bool]
) -> Iterator[None]:
    """Serve metrics and probes of a producer while the block runs.

    Raises ConfigError when the port cannot be had.
    """
    if not services.settings.monitoring_port:
        yield
        return
    registry = process_registry(services)
    expose_pool(registry, services)
    listeners.add(DispatchMetrics(registry))

    def beat(event: Event) -> None:
        del event
        heartbeat.beat()  # a long tick is not stuck while it claims and dispatches

    listeners.add(beat)
    Gauge(PREFIX + "leader", "1: this producer leads", registry=registry).set_function(leading)
    registry.register(fleet_gauges(services))
    server = make_server(services, registry, lambda: stuck_loops(producer=heartbeat))
    server.bind(services.settings.monitoring_host, services.settings.monitoring_port)
    server.serve()
    try:
        yield
    finally:
        server.close()


def bind_beat_server(services: Services, heartbeat: Heartbeat) -> MonitoringServer:
    """Take the port for metrics and probes of beat; `serve` the result.

    Raises ConfigError when the port cannot be had.
    """
    registry = process_registry(services)
    expose_pool(registry, services)
    registry.register(fleet_gauges(services))
    server = make_server(
        services,
        registry,
        lambda: stuck_loops(beat=heartbeat),
        {"redis": lambda: missing_redis(services)},
    )
    server.bind(services.settings.monitoring_host, services.settings.monitoring_port)
    return server


def process_registry(services: Services) -> CollectorRegistry:
    """A registry with the metrics that every process has, but for its pool's."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Information(services.space))
    return registry


def expose_pool(registry: CollectorRegistry, services: Services) -> None:
    """Add the metrics of this process' pool, read at each scrape."""
    before = BeforeScrape(lambda: pool.sync(services.store.database.pool.stats()))
    registry.register(before)  # first: collectors run in the order of their registration
    pool = PoolMetrics(registry)


def make_server(
    services: Services,
    registry: CollectorRegistry,
    live: Live,
    checks: Mapping[str, Missing] | None = None,
) -> MonitoringServer:
    """The server. It is ready when all `checks` find nothing missing.

    By default those are `server_checks`.
    """
    ready = Readiness(server_checks(services) if checks is None else checks)
    return MonitoringServer(registry, live=lambda: liveness(live), ready=ready.answer)


def server_checks(services: Services) -> dict[str, Missing]:
    """The checks of SurrealDB and Redis, which workers and producers both need."""
    return {
        "database": lambda: missing_database(services),
        "redis": lambda: missing_redis(services),
    }


def stuck_loops(**heartbeats: Heartbeat) -> dict[str, str]:
    """The loops that are stuck, by name, and for how long."""
    return {name: why for name, heartbeat in heartbeats.items() if (why := heartbeat.stuck())}


def missing_database(services: Services) -> dict[str, str]:
    """Why SurrealDB cannot be used; empty when it can."""
    if not services.store.database.pool.check():
        return {"database": f"SurrealDB at {services.settings.db_url} does not answer"}
    try:
        services.store.check()
    except SchemaError as error:
        return {"schema": str(error)}
    except EmbedStarError as error:
        return {"database": str(error)}
    return {}


def missing_redis(services: Services) -> dict[str, str]:
    """Why Redis cannot be used; empty when it can."""
    try:
        services.redis.ping()
    except RedisError as error:
        return {"redis": f"Redis does not answer: {type(error).__name__}"}
    return {}


def fleet_gauges(services: Services) -> FleetGauges:
    """The gauges of the whole fleet, read through these services."""
    return FleetGauges(
        services.space, lambda: database_facts(services), lambda: redis_facts(services)
    )


def database_facts(services: Services) -> DatabaseFacts:
    """Read the database. Raises StoreUnavailable and StoreError."""
    store = services.store
    return DatabaseFacts(
        pending={lane.name.lower(): rows for lane, rows in store.outbox.counts().items()},
        oldest_at_s={lane.name.lower(): _oldest_at_s(services, lane) for lane in Lane},
        failed=store.failures.by_reason(),
        embedded=store.vectors.count(),
        swept_at_s=_seconds(store.timestamps.at(SWEPT)),
        reconciled_at_s=_seconds(store.checkpoints.finished_at()),
    )


def redis_facts(services: Services) -> RedisFacts:
    """Read Redis. Raises RedisUnavailable, also when Redis answers but accepts no writes."""
    check_writes(services.redis)
    runs = services.ledger.counts()
    queues, unacked = services.queues.look()
    age_s = runs.oldest_age_s
    return RedisFacts(
        runs=runs,
        run_began_at_s=None if age_s is None else time.time() - age_s,
        breaker=services.breaker.state(),
        rate_limit=services.rate_limiter.state(),
        queues=queues,
        unacked=unacked,
    )


def _oldest_at_s(services: Services, lane: Lane) -> float | None:
    at_ms = services.store.outbox.oldest_at_ms(lane)
    return None if at_ms is None else at_ms / 1000


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
