"""What a process counts of its own work, for Prometheus: listeners of the core's events.

docs/metrics.md has every name and its meaning. With `-P processes` the values are in files
that all children share (see `observe.multiprocess`), so each is a plain counter, histogram
or gauge here; nothing else works there.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from embed_star import __version__
from embed_star.events import (
    CacheRead,
    Event,
    ProviderCalled,
    RowsContended,
    RowsLeft,
    RowsWritten,
    RunDispatched,
    TaskPutOff,
    VectorsJudged,
)
from embed_star.models import Lane, Outcome, Space, Status
from embed_star.providers.measured import FAULTS, OK
from embed_star.store.outbox import ulid_ms
from embed_star.store.pool import PoolStats
from embed_star.validation import REASONS

PREFIX = "embed_star_"
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
FRESHNESS_BUCKETS_S = (
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    *(1800, 3600, 21_600, 86_400),
)
INVALID = "invalid"
LAYERS = ("redis", "surrealdb")
WITHOUT_A_CALL = (Status.CACHED, Status.UNCHANGED)
WITH_A_VECTOR = (Status.EMBEDDED, Status.CACHED)

Handler = Callable[[Any], None]


class WorkerMetrics:
    """What a worker does: calls, tokens, vectors, rows. Listens to events."""

    def __init__(
        self,
        registry: CollectorRegistry,
        space: Space,
        *,
        dollars_per_million_tokens: float,
        tasks: tuple[str, ...] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        model = (space.provider, space.model)
        of_model = ("provider", "model")
        self._dollars_per_token = dollars_per_million_tokens / 1e6
        self._wall_clock = wall_clock
        self._embedded = counter(
            "embeddings", "Vectors computed by the provider and found valid", *of_model
        ).labels(*model)
        self._errors = counter(
            "embeddings_errors", "Texts sent without getting a usable vector", "type"
        )
        self._call_s = Histogram(
            PREFIX + "embedding_duration_seconds",
            "A provider call, without the wait for the rate limit",
            of_model,
            buckets=CALL_BUCKETS_S,
            registry=registry,
        ).labels(*model)
        requests = counter("provider_requests", "Provider calls", *of_model, "outcome")
        self._requests = {name: requests.labels(*model, name) for name in (OK, *FAULTS)}
        self._throttled = counter(
            "rate_limits", "Calls that the provider answered with 429", "provider"
        ).labels(space.provider)
        self._tokens = counter(
            "provider_tokens", "Tokens as the provider counted them", *of_model
        ).labels(*model)
        self._dollars = counter(
            "provider_cost_dollars", "What those tokens cost, in US dollars", *of_model
        ).labels(*model)
        self._judged = counter("embedding_validations", "Vectors the validator judged", "result")
        self._hits = counter("cache_hits", "Vectors found in the cache before a provider call")
        self._misses = counter("cache_misses", "Vectors not found in the cache")
        rows = counter("rows", "Rows of finished runs, by what became of them", "outcome")
        self._rows = {status: rows.labels(status.value) for status in Status}
        self._avoided = counter("reembeddings_avoided", "Rows brought up to date without a call")
        freshness = Histogram(
            PREFIX + "freshness_seconds",
            "From the change of a row to its vector stored",
            ("lane",),
            buckets=FRESHNESS_BUCKETS_S,
            registry=registry,
        )
        self._freshness = {lane: freshness.labels(lane.name.lower()) for lane in Lane}
        self._put_off = counter("retry_attempts", "Tasks put off to be tried again", "task")
        for fault in (*FAULTS, INVALID):
            self._errors.labels(fault)  # 0 from the start: a first one is an increase
        for result in (OK, *REASONS):
            self._judged.labels(result)
        for task in tasks:
            self._put_off.labels(task)
        self._handlers: dict[type, Handler] = {
            ProviderCalled: self._called,
            VectorsJudged: self._count_judged,
            CacheRead: self._count_cache,
            RowsWritten: self._written,
            RowsLeft: self._left,
            TaskPutOff: lambda event: self._put_off.labels(event.task).inc(),
        }

    def __call__(self, event: Event) -> None:
        if handler := self._handlers.get(type(event)):
            handler(event)

    def _called(self, event: ProviderCalled) -> None:
        self._requests[event.outcome].inc()
        self._call_s.observe(event.seconds)
        if event.outcome != OK:
            self._errors.labels(event.outcome).inc(event.texts)
        if event.outcome == "throttled":
            self._throttled.inc()
        if event.tokens:
            self._tokens.inc(event.tokens)
            self._dollars.inc(event.tokens * self._dollars_per_token)

    def _count_judged(self, event: VectorsJudged) -> None:
        self._embedded.inc(event.accepted)
        self._judged.labels(OK).inc(event.accepted)
        for reason, vectors in event.refused.items():
            self._judged.labels(reason).inc(vectors)
            self._errors.labels(INVALID).inc(vectors)

    def _count_cache(self, event: CacheRead) -> None:
        self._hits.inc(event.hits)
        self._misses.inc(event.misses)

    def _written(self, event: RowsWritten) -> None:
        now_s = self._wall_clock()
        for outcome in event.outcomes:
            self._rows[outcome.status].inc()
            if outcome.status in WITH_A_VECTOR:
                self._observe_freshness(outcome, now_s)
        self._avoided.inc(sum(one.status in WITHOUT_A_CALL for one in event.outcomes))

    def _observe_freshness(self, outcome: Outcome, now_s: float) -> None:
        lane, ulid = min(outcome.row.outbox, key=lambda entry: entry[1])
        # The database's clock may be ahead of ours.
        self._freshness[Lane(lane)].observe(max(0.0, now_s - ulid_ms(ulid) / 1000))

    def _left(self, event: RowsLeft) -> None:
        self._rows[Status.DEFERRED].inc(event.deferred)
        self._rows[Status.LOST].inc(event.lost)


class DispatchMetrics:
    """What a producer does, or a worker's sweep in its place. Listens to events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        dispatched = Counter(
            PREFIX + "rows_dispatched", "Rows claimed and enqueued", ("lane",), registry=registry
        )
        contended = Counter(
            PREFIX + "lock_contention",
            "Rows not claimed because somebody holds them",
            ("layer",),
            registry=registry,
        )
        self._dispatched = {lane: dispatched.labels(lane.name.lower()) for lane in Lane}
        self._contended = {layer: contended.labels(layer) for layer in LAYERS}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunDispatched):
            self._dispatched[event.lane].inc(event.rows)
        elif isinstance(event, RowsContended):
            self._contended[event.layer].inc(event.rows)


class PoolMetrics:
    """The connections of this process to SurrealDB; with `-P processes`, of all children."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            # `livesum`: a child that is dead holds no connection.
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
        """Take over what the pool of this process counts now."""
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
    """What runs, as labels of constant gauges. A collector."""

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
    """A collector that collects nothing, and does something before the others do."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def collect(self) -> Iterator[Metric]:
        self._action()
        return iter(())
