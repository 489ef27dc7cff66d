"""Gauges of the whole fleet for Prometheus. Beat and producers read them at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from embed_star.calling.breaker import breaker
from embed_star.calling.breaker.breaker import Phase
from embed_star.calling.rate_limit import rate_limiter
from embed_star.coordination.in_flight import RunCounts
from embed_star.coordination.queues import QueueState
from embed_star.models import Space
from embed_star.observe.metrics import PREFIX
from embed_star.observe.sampler import Sampler

FRESH_S = 5.0
DEADLINE_S = 2.0
LATE_S = 10.0
STATES = {Phase.CLOSED: 0, Phase.OPEN: 1, Phase.HALF_OPEN: 2}

USED_UP_SHARE = 0.9
USED_UP_QUEUE_S = 1.0
"""Above these the provider's rate limit is the bottleneck, and more workers do not help."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Facts from SurrealDB. Times are seconds since 1970; None means never, or no row."""

    pending: Mapping[str, int]
    """Outbox records by lane."""
    oldest_at_s: Mapping[str, float | None]
    failed: Mapping[str, int]
    embedded: int
    swept_at_s: float | None
    reconciled_at_s: float | None


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """Facts from Redis."""

    runs: RunCounts
    run_began_at_s: float | None
    """Start of the oldest run under way, in seconds since 1970."""
    breaker: breaker.State
    rate_limit: rate_limiter.State
    queues: Mapping[str, QueueState]
    unacked: int


def scaling_backlog(database: DatabaseFacts, redis: RedisFacts) -> int:
    """Pending rows that more workers would help with, for an autoscaler.

    Example: 500 pending rows, 100 of them begun, are 400. It is 0 while the provider is
    paused or its rate limit is used up.
    """
    at_the_limit = (
        redis.breaker.phase is not Phase.CLOSED
        or redis.rate_limit.paused_s > 0
        or redis.rate_limit.used_share >= USED_UP_SHARE
        or redis.rate_limit.queue_s >= USED_UP_QUEUE_S
    )
    if at_the_limit:
        return 0
    begun = redis.runs.in_flight - redis.runs.queued
    return max(0, sum(database.pending.values()) - begun)


class FleetGauges:
    """A collector. A value that cannot be read is absent; the scrape succeeds all the same."""

    def __init__(
        self,
        space: Space,
        read_database: Callable[[], DatabaseFacts],
        read_redis: Callable[[], RedisFacts],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`read_database` and `read_redis` may raise TransientError and StoreError."""
        self._space = space
        self._database = Sampler(read_database, fresh_s=FRESH_S, late_s=LATE_S)
        self._redis = Sampler(read_redis, fresh_s=FRESH_S, late_s=LATE_S)
        self._wall_clock = wall_clock

    def describe(self) -> Iterator[Metric]:
        """The families, without reading anything."""
        yield from self._families(None, None)

    def collect(self) -> Iterator[Metric]:
        self._redis.renew()  # while the database is asked
        yield from self._families(
            self._database.get(DEADLINE_S).value, self._redis.get(DEADLINE_S).value
        )

    def _families(
        self, database: DatabaseFacts | None, redis: RedisFacts | None
    ) -> Iterator[Metric]:
        yield from self._of_database(database)
        yield from self._of_redis(redis)
        scaling = _gauge("scaling_backlog_rows", "Pending rows that more workers would help with")
        if database and redis:
            scaling.add_metric((), scaling_backlog(database, redis))
        yield scaling
        yield from self._of_sources(database is not None, redis is not None)

    def _of_database(self, facts: DatabaseFacts | None) -> Iterator[Metric]:
        pending = _gauge("repos_pending", "Pending records of the outbox", "lane")
        oldest = _gauge("oldest_pending_seconds", "Age of the oldest of them, 0: none", "lane")
        failed = _gauge("repos_failed", "Rows that cannot be embedded", "reason")
        embedded = _gauge("repos_embedded", "Vectors in the table of this space")
        swept = _gauge("last_sweep_timestamp_seconds", "When a sweep last succeeded")
        reconciled = _gauge("last_reconcile_timestamp_seconds", "When a reconcile last ended")
        if facts is not None:
            for lane, rows in facts.pending.items():
                pending.add_metric((lane,), rows)
                oldest.add_metric((lane,), self._age_s(facts.oldest_at_s[lane]))
            for reason, rows in facts.failed.items():
                failed.add_metric((reason,), rows)
            embedded.add_metric((), facts.embedded)
            for gauge, at_s in ((swept, facts.swept_at_s), (reconciled, facts.reconciled_at_s)):
                if at_s is not None:
                    gauge.add_metric((), at_s)
        yield from (pending, oldest, failed, embedded, swept, reconciled)

    def _of_redis(self, facts: RedisFacts | None) -> Iterator[Metric]:
        of_model = ("provider", "model")
        model = (self._space.provider, self._space.model)
        in_flight = _gauge("repos_in_flight", "Rows claimed by runs under way")
        queued = _gauge("repos_queued", "Of those, the rows that no worker has begun")
        chord = _gauge("chord_oldest_seconds", "Age of the oldest run under way, 0: none")
        state = _gauge("circuit_breaker_state", "0 closed, 1 open, 2 half open", *of_model)
        used = _gauge("budget_used_ratio", "Of the provider's rate limit", *of_model)
        paused = _gauge("budget_paused_seconds", "Left of the provider's pause", *of_model)
        messages = _gauge("queue_messages", "Messages waiting in Redis", "queue")
        oldest = _gauge("queue_oldest_seconds", "Since the oldest was enqueued", "queue")
        unacked = _gauge("queue_unacked_messages", "Messages with workers, run or put off")
        if facts is not None:
            in_flight.add_metric((), facts.runs.in_flight)
            queued.add_metric((), facts.runs.queued)
            chord.add_metric((), self._age_s(facts.run_began_at_s))
            state.add_metric(model, STATES[facts.breaker.phase])
            used.add_metric(model, facts.rate_limit.used_share)
            paused.add_metric(model, facts.rate_limit.paused_s)
            for name, queue in facts.queues.items():
                messages.add_metric((name,), queue.messages)
                oldest.add_metric((name,), self._age_s(queue.oldest_at_s))
            unacked.add_metric((), facts.unacked)
        yield from (in_flight, queued, chord, state, used, paused, messages, oldest, unacked)

    def _of_sources(self, database_up: bool, redis_up: bool) -> Iterator[Metric]:
        up = _gauge("source_up", "Whether it could be read for this scrape", "source")
        errors = CounterMetricFamily(
            PREFIX + "scrape_errors", "Readings that failed, or were late", labels=("source",)
        )
        for source, is_up, sampler in (
            ("database", database_up, self._database),
            ("redis", redis_up, self._redis),
        ):
            up.add_metric((source,), is_up)
            errors.add_metric((source,), sampler.failures)
        yield from (up, errors)

    def _age_s(self, at_s: float | None) -> float:
        return 0.0 if at_s is None else max(0.0, self._wall_clock() - at_s)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, meaning, labels=labels)
