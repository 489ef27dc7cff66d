"""What each process exposes, wired: metrics and probes over its services."""

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
from embed_star.store.tables.timestamps import SWEPT


def producer_pulse(settings: Settings) -> Heartbeat:
    """A turn may wait for the database once, and is no more stuck for that."""
    return Heartbeat(timings.LIVENESS_TIMEOUT_S + settings.timings.db_longest_s)


@contextmanager
def of_producer(
    services: Services, listeners: Listeners, heartbeat: Heartbeat, leading: Callable[[], bool]
) -> Iterator[None]:
    """Metrics and probes of a producer, while the block runs. Raises ConfigError."""
    if not services.settings.monitoring_port:
        yield
        return
    registry = process_registry(services)
    expose_pool(registry, services)
    listeners.add(DispatchMetrics(registry))

    def moved(event: Event) -> None:
        del event
        heartbeat.beat()  # within a long turn, too

    listeners.add(moved)
    Gauge(PREFIX + "leader", "1: this producer leads", registry=registry).set_function(leading)
    registry.register(fleet_gauges(services))
    server = server_of(services, registry, lambda: stuck_loops(producer=heartbeat))
    server.bind(services.settings.monitoring_host, services.settings.monitoring_port)
    server.serve()
    try:
        yield
    finally:
        server.close()


def of_beat(services: Services, heartbeat: Heartbeat) -> MonitoringServer:
    """Metrics and probes of beat, bound and not yet served. Raises ConfigError."""
    registry = process_registry(services)
    expose_pool(registry, services)
    registry.register(fleet_gauges(services))
    server = server_of(
        services,
        registry,
        lambda: stuck_loops(beat=heartbeat),
        {"redis": lambda: missing_redis(services)},
    )
    server.bind(services.settings.monitoring_host, services.settings.monitoring_port)
    return server


def process_registry(services: Services) -> CollectorRegistry:
    """What every process exposes of itself, but for its pool."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody reads
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Information(services.space))
    return registry


def expose_pool(registry: CollectorRegistry, services: Services) -> None:
    """The pool of this process, as it is when scraped."""
    before = BeforeScrape(lambda: pool.sync(services.store.database.pool.stats()))
    registry.register(before)  # so it is before the pool's own
    pool = PoolMetrics(registry)


def server_of(
    services: Services,
    registry: CollectorRegistry,
    live: Live,
    checks: Mapping[str, Missing] | None = None,
) -> MonitoringServer:
    """The server; ready when nothing is missing of `checks`, by default `both_servers`."""
    ready = Readiness(both_servers(services) if checks is None else checks)
    return MonitoringServer(registry, live=lambda: liveness(live), ready=ready.answer)


def both_servers(services: Services) -> dict[str, Missing]:
    """What a process that embeds, or has rows embedded, cannot do without."""
    return {
        "database": lambda: missing_database(services),
        "redis": lambda: missing_redis(services),
    }


def stuck_loops(**pulses: Heartbeat) -> dict[str, str]:
    """The loops that do not move, by name."""
    return {name: why for name, heartbeat in pulses.items() if (why := heartbeat.stuck())}


def missing_database(services: Services) -> dict[str, str]:
    """Why SurrealDB cannot be worked with; empty when it can."""
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
    """Why Redis cannot be worked with; empty when it can."""
    try:
        services.redis.ping()
    except RedisError as error:
        return {"redis": f"Redis does not answer: {type(error).__name__}"}
    return {}


def fleet_gauges(services: Services) -> FleetGauges:
    """The collector, over these services."""
    return FleetGauges(
        services.space, lambda: database_facts(services), lambda: redis_facts(services)
    )


def database_facts(services: Services) -> DatabaseFacts:
    """Raises StoreUnavailable and StoreError."""
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
    """Raises RedisUnavailable, also when Redis answers and takes no writes."""
    check_writes(services.redis)
    runs = services.ledger.counts()  # the guards below do without Redis, and would not say so
    queues, unacked = services.queues.look()
    age_s = runs.oldest_age_s
    return RedisFacts(
        runs=runs,
        run_began_at_s=None if age_s is None else time.time() - age_s,
        breaker=services.breaker.state(),
        budget=services.budget.state(),
        queues=queues,
        unacked=unacked,
    )


def _oldest_at_s(services: Services, lane: Lane) -> float | None:
    at_ms = services.store.outbox.oldest_at_ms(lane)
    return None if at_ms is None else at_ms / 1000


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
