"""Prometheus metrics of a process' own work, made from the core's events.

docs/metrics.md has every name and its meaning. With `-P processes` all children share the
values through files (see `observe.multiprocess`). Only plain counters, histograms and gauges
work there, so there is nothing else here.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from embed_star.calling.call_outcomes import FAULTS, OK, THROTTLED
from embed_star.calling.validation import REASONS
from embed_star.events import (
    CacheRead,
    ConcurrencyChanged,
    Event,
    LoopFailed,
    ProviderCalled,
    RowsContended,
    RowsLeft,
    RowsWritten,
    RunDispatched,
    TaskPutOff,
    VectorsJudged,
)
from embed_star.models import Lane, OutboxId, Space, Status
from embed_star.store.tables.outbox import ulid_ms

PREFIX = "embed_star_"
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
FRESHNESS_BUCKETS_S = (
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    *(1800, 3600, 21_600, 86_400),
)
INVALID = "invalid"
LAYERS = ("redis", "surrealdb")
LOOPS = ("producer", "doorbell", "runs")
WITHOUT_A_CALL = (Status.CACHED, Status.UNCHANGED)
WITH_A_VECTOR = (Status.EMBEDDED, Status.CACHED)
_MODEL = ("provider", "model")


class CallMetrics:
    """Provider calls and cache reads of a worker. An event listener."""

    def __init__(
        self, registry: CollectorRegistry, space: Space, *, dollars_per_million_tokens: float
    ) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        def of_model(name: str, meaning: str) -> Counter:
            return counter(name, meaning, *_MODEL).labels(*model)

        model = (space.provider, space.model)
        self._dollars_per_token = dollars_per_million_tokens / 1e6
        self._embedded = of_model("embeddings", "Vectors computed by the provider and found valid")
        self._tokens = of_model("provider_tokens", "Tokens as the provider counted them")
        self._dollars = of_model("provider_cost_dollars", "What they cost, in US dollars")
        self._call_s = Histogram(
            PREFIX + "embedding_duration_seconds",
            "A provider call, without the wait for the rate limit",
            _MODEL,
            buckets=CALL_BUCKETS_S,
            registry=registry,
        ).labels(*model)
        self._calls = Gauge(
            PREFIX + "provider_calls_allowed",
            "Provider calls that may be under way at once",
            _MODEL,
            registry=registry,
            multiprocess_mode="livesum",
        ).labels(*model)
        requests = counter("provider_requests", "Provider calls", *_MODEL, "outcome")
        self._requests = {name: requests.labels(*model, name) for name in (OK, *FAULTS)}
        throttled = counter("rate_limits", "Calls that were answered with 429", "provider")
        self._throttled = throttled.labels(space.provider)
        errors = counter("embeddings_errors", "Texts sent without getting a usable vector", "type")
        self._errors = {name: errors.labels(name) for name in (*FAULTS, INVALID)}
        judged = counter("embedding_validations", "Vectors the validator judged", "result")
        self._judged = {result: judged.labels(result) for result in (OK, *REASONS)}
        self._hits = counter("cache_hits", "Vectors found in the cache before a provider call")
        self._misses = counter("cache_misses", "Vectors not found in the cache")

    def __call__(self, event: Event) -> None:
        match event:
            case ProviderCalled():
                self._called(event)
            case ConcurrencyChanged():
                self._calls.set(event.calls)
            case VectorsJudged():
                self._count_judged(event)
            case CacheRead():
                self._hits.inc(event.hits)
                self._misses.inc(event.misses)
            case _:
                pass

    def _called(self, event: ProviderCalled) -> None:
        self._requests[event.outcome].inc()
        self._call_s.observe(event.seconds)
        if event.outcome != OK:
            self._errors[event.outcome].inc(event.texts)
        if event.outcome == THROTTLED:
            self._throttled.inc()
        if event.tokens:
            self._tokens.inc(event.tokens)
            self._dollars.inc(event.tokens * self._dollars_per_token)

    def _count_judged(self, event: VectorsJudged) -> None:
        self._embedded.inc(event.accepted)
        self._judged[OK].inc(event.accepted)
        for reason, vectors in event.refused.items():
            self._judged[reason].inc(vectors)
            self._errors[INVALID].inc(vectors)


class RowMetrics:
    """Outcomes of rows and retries of tasks in a worker. An event listener."""

    def __init__(
        self,
        registry: CollectorRegistry,
        tasks: Iterable[str],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`tasks` are the names of the tasks that may be retried."""

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        self._wall_clock = wall_clock
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
        self._freshness = {int(lane): freshness.labels(lane.name.lower()) for lane in Lane}
        self._put_off = counter("retry_attempts", "Tasks put off to be tried again", "task")
        for task in tasks:  # from 0, so that the first retry is an increase
            self._put_off.labels(task)

    def __call__(self, event: Event) -> None:
        match event:
            case RowsWritten():
                self._written(event)
            case RowsLeft():
                self._rows[Status.DEFERRED].inc(event.deferred)
                self._rows[Status.LOST].inc(event.lost)
            case TaskPutOff():
                self._put_off.labels(event.task).inc()
            case _:
                pass

    def _written(self, event: RowsWritten) -> None:
        now_s = self._wall_clock()
        tally = Counts(outcome.status for outcome in event.outcomes)
        for status, rows in tally.items():
            self._rows[status].inc(rows)
        self._avoided.inc(sum(tally[status] for status in WITHOUT_A_CALL))
        for outcome in event.outcomes:
            if outcome.status in WITH_A_VECTOR:
                self._observe_freshness(outcome.row.outbox, now_s)

    def _observe_freshness(self, outbox: Sequence[OutboxId], now_s: float) -> None:
        lane, ulid = min(outbox, key=itemgetter(1)) if len(outbox) > 1 else outbox[0]
        # The database's clock may be ahead of ours.
        self._freshness[lane].observe(max(0.0, now_s - ulid_ms(ulid) / 1000))


class DispatchMetrics:
    """Dispatched rows of a producer, or of a worker's sweep. An event listener."""

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
        failed = Counter(
            PREFIX + "loop_errors",
            "Errors that nobody expected, and that a loop of the producer outlived",
            ("loop",),
            registry=registry,
        )
        self._failed = {loop: failed.labels(loop) for loop in LOOPS}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunDispatched):
            self._dispatched[event.lane].inc(event.rows)
        elif isinstance(event, RowsContended):
            self._contended[event.layer].inc(event.rows)
        elif isinstance(event, LoopFailed):
            self._failed[event.part].inc()
