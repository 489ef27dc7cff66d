"""The listeners that count events, the fleet's gauges, and docs/metrics.md, both ways."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from embed_star.calling.breaker import breaker
from embed_star.calling.breaker.breaker import Phase
from embed_star.calling.call_outcomes import FAULTS
from embed_star.calling.rate_limit import rate_limiter as limits
from embed_star.coordination.in_flight import RunCounts
from embed_star.coordination.queues import QueueState
from embed_star.errors import ConfigError, RedisUnavailable
from embed_star.events import (
    CacheRead,
    ConcurrencyChanged,
    Emit,
    Event,
    Listeners,
    ProviderCalled,
    RowsContended,
    RowsLeft,
    RowsWritten,
    RunDispatched,
    TaskPutOff,
    VectorsJudged,
)
from embed_star.models import Lane, Outcome, Pending, Space, Status
from embed_star.observe.fleet import DatabaseFacts, FleetGauges, RedisFacts, scaling_backlog
from embed_star.observe.metrics import CallMetrics, DispatchMetrics, RowMetrics
from embed_star.observe.multiprocess import SharedFiles
from embed_star.observe.process import Information, PoolMetrics
from embed_star.store.client.pool import PoolStats
from embed_star.store.tables.outbox import ulid_of_ms
from tests.support.metrics_page import documented, exposed

SPACE = Space("openai", "model-a", 8, "v1")
NOW_S = 1_800_000_000.0
MODEL = {"provider": "openai", "model": "model-a"}

DATABASE = DatabaseFacts(
    pending={"fresh": 30, "backfill": 70},
    oldest_at_s={"fresh": NOW_S - 3, "backfill": None},
    failed={"rejected": 2},
    embedded=500,
    swept_at_s=NOW_S - 10,
    reconciled_at_s=NOW_S - 100,
)
REDIS = RedisFacts(
    runs=RunCounts(40, 25, 1000, 1.5),
    run_began_at_s=NOW_S - 1.5,
    breaker=breaker.State(Phase.CLOSED),
    rate_limit=limits.State(),
    queues={"embed": QueueState(4, NOW_S - 2), "store": QueueState(0, None)},
    unacked=3,
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def worker(registry: CollectorRegistry) -> Emit:
    listeners = Listeners()
    listeners.add(CallMetrics(registry, SPACE, dollars_per_million_tokens=0.5))
    listeners.add(RowMetrics(registry, ["embed_star.embed_batch"], wall_clock=lambda: NOW_S))
    return listeners


def fleet_gauges(
    database: Callable[[], DatabaseFacts] = lambda: DATABASE,
    redis: Callable[[], RedisFacts] = lambda: REDIS,
) -> FleetGauges:
    return FleetGauges(SPACE, database, redis, wall_clock=lambda: NOW_S)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"embed_star_{name}", labels)


def outcome(status: Status, *ages_s: float, lane: Lane = Lane.FRESH) -> Outcome:
    entries = tuple((int(lane), ulid_of_ms(round((NOW_S - age) * 1000))) for age in ages_s)
    return Outcome(Pending("key", entries), status)


class TestWorker:
    def test_counts_a_call_its_tokens_and_its_cost(
        self, registry: CollectorRegistry, worker: Emit
    ) -> None:
        worker(ProviderCalled("ok", texts=10, seconds=0.2, tokens=4_000_000))
        assert value(registry, "provider_requests_total", **MODEL, outcome="ok") == 1
        assert value(registry, "provider_tokens_total", **MODEL) == 4_000_000
        assert value(registry, "provider_cost_dollars_total", **MODEL) == 2.0
        assert value(registry, "embedding_duration_seconds_sum", **MODEL) == 0.2
        assert value(registry, "rate_limits_total", provider="openai") == 0
        assert value(registry, "embeddings_total", **MODEL) == 0  # not judged yet

    @pytest.mark.parametrize("fault", FAULTS)
    def test_counts_a_failed_call_by_its_fault(
        self, registry: CollectorRegistry, worker: Emit, fault: str
    ) -> None:
        worker(ProviderCalled(fault, texts=10, seconds=0.2))
        assert value(registry, "provider_requests_total", **MODEL, outcome=fault) == 1
        assert value(registry, "embeddings_errors_total", type=fault) == 10
        throttled = fault == "throttled"
        assert value(registry, "rate_limits_total", provider="openai") == throttled
        assert value(registry, "provider_tokens_total", **MODEL) == 0

    def test_shows_how_many_calls_may_be_under_way(
        self, registry: CollectorRegistry, worker: Emit
    ) -> None:
        worker(ConcurrencyChanged(3))
        worker(ConcurrencyChanged(6))
        assert value(registry, "provider_calls_allowed", **MODEL) == 6

    def test_counts_vectors_by_verdict(self, registry: CollectorRegistry, worker: Emit) -> None:
        worker(VectorsJudged(7, Counter(zeros=2, constant=1)))
        assert value(registry, "embeddings_total", **MODEL) == 7
        assert value(registry, "embedding_validations_total", result="ok") == 7
        assert value(registry, "embedding_validations_total", result="zeros") == 2
        assert value(registry, "embeddings_errors_total", type="invalid") == 3

    def test_counts_cache_hits_and_misses(self, registry: CollectorRegistry, worker: Emit) -> None:
        worker(CacheRead(hits=3, misses=4))
        assert value(registry, "cache_hits_total") == 3
        assert value(registry, "cache_misses_total") == 4

    def test_counts_rows_and_their_freshness(
        self, registry: CollectorRegistry, worker: Emit
    ) -> None:
        worker(
            RowsWritten(
                [
                    outcome(Status.EMBEDDED, 0.2, 40.0),  # changed twice
                    outcome(Status.CACHED, 0.2, lane=Lane.BACKFILL),
                    outcome(Status.UNCHANGED, 1.0),
                    outcome(Status.FAILED, 1.0),
                    outcome(Status.EMBEDDED, -5.0),  # the database's clock is ahead
                ],
                0.1,
            )
        )
        worker(RowsLeft(deferred=8, lost=9))
        counts = {
            status.value: value(registry, "rows_total", outcome=status.value) for status in Status
        }
        assert counts == {
            "embedded": 2,
            "cached": 1,
            "unchanged": 1,
            "failed": 1,
            "gone": 0,
            "deferred": 8,
            "lost": 9,
        }
        assert value(registry, "reembeddings_avoided_total") == 2
        assert value(registry, "freshness_seconds_count", lane="fresh") == 2
        assert value(registry, "freshness_seconds_sum", lane="fresh") == pytest.approx(40.0)
        assert value(registry, "freshness_seconds_bucket", lane="backfill", le="0.25") == 1

    def test_counts_retries_by_task(self, registry: CollectorRegistry, worker: Emit) -> None:
        worker(TaskPutOff("embed_star.embed_batch"))
        assert value(registry, "retry_attempts_total", task="embed_star.embed_batch") == 1


def test_dispatched_and_contended_rows_are_counted(registry: CollectorRegistry) -> None:
    metrics = DispatchMetrics(registry)
    metrics(RunDispatched("a", Lane.BACKFILL, 12, 2, 0, 0.1, 0.1))
    metrics(RowsContended("surrealdb", 3))
    assert value(registry, "rows_dispatched_total", lane="backfill") == 12
    assert value(registry, "rows_dispatched_total", lane="fresh") == 0
    assert value(registry, "lock_contention_total", layer="surrealdb") == 3


def test_counters_of_the_pool_never_go_back(registry: CollectorRegistry) -> None:
    pool = PoolMetrics(registry)
    pool.sync(PoolStats(active=2, idle=1, waiting=3, created_total=5, errors_total=1))
    pool.sync(PoolStats(active=1, idle=2, created_total=6, errors_total=1))
    assert value(registry, "pool_connections_active") == 1
    assert value(registry, "pool_connections_waiting") == 0
    assert value(registry, "pool_connections_created_total") == 6
    pool.sync(PoolStats(created_total=2))  # another pool, since the first was closed
    assert value(registry, "pool_connections_created_total") == 8
    assert value(registry, "pool_connection_errors_total") == 1


class TestFleet:
    @pytest.fixture
    def collected(self, registry: CollectorRegistry) -> CollectorRegistry:
        registry.register(fleet_gauges())
        return registry

    def test_has_the_values_of_database_and_redis(self, collected: CollectorRegistry) -> None:
        assert value(collected, "repos_pending", lane="backfill") == 70
        assert value(collected, "oldest_pending_seconds", lane="fresh") == 3
        assert value(collected, "oldest_pending_seconds", lane="backfill") == 0
        assert value(collected, "repos_failed", reason="rejected") == 2
        assert value(collected, "chord_oldest_seconds") == 1.5
        assert value(collected, "queue_messages", queue="embed") == 4
        assert value(collected, "queue_oldest_seconds", queue="embed") == 2
        assert value(collected, "circuit_breaker_state", **MODEL) == 0
        assert value(collected, "scaling_backlog_rows") == 85
        assert value(collected, "source_up", source="redis") == 1

    def test_without_redis_has_what_the_database_says(self, registry: CollectorRegistry) -> None:
        def away() -> RedisFacts:
            raise RedisUnavailable("Redis is away")

        registry.register(fleet_gauges(redis=away))
        families = exposed(registry.collect())
        assert "embed_star_repos_pending" in families
        assert not {"embed_star_repos_in_flight", "embed_star_scaling_backlog_rows"} & set(families)
        assert value(registry, "source_up", source="redis") == 0
        assert value(registry, "source_up", source="database") == 1
        assert (value(registry, "scrape_errors_total", source="redis") or 0) >= 1
        assert value(registry, "scrape_errors_total", source="database") == 0

    @pytest.mark.parametrize(
        "limit",
        [
            {"breaker": breaker.State(Phase.OPEN, 3.0)},
            {"breaker": breaker.State(Phase.HALF_OPEN)},
            {"rate_limit": limits.State(paused_s=1.0)},
            {"rate_limit": limits.State(used_share=0.95)},
            {"rate_limit": limits.State(queue_s=2.0)},
        ],
    )
    def test_more_workers_are_no_help_where_the_provider_is_the_limit(
        self, limit: dict[str, object]
    ) -> None:
        assert scaling_backlog(DATABASE, replace(REDIS, **limit)) == 0  # type: ignore[arg-type]

    @pytest.mark.parametrize("phase", Phase)
    def test_every_state_of_the_breaker_has_a_number(
        self, registry: CollectorRegistry, phase: Phase
    ) -> None:
        registry.register(fleet_gauges(redis=lambda: replace(REDIS, breaker=breaker.State(phase))))
        numbers = {Phase.CLOSED: 0, Phase.OPEN: 1, Phase.HALF_OPEN: 2}
        assert value(registry, "circuit_breaker_state", **MODEL) == numbers[phase]


def test_the_page_has_what_is_exposed_and_the_other_way_round(
    registry: CollectorRegistry, worker: Emit
) -> None:
    registry.register(Information(SPACE))
    registry.register(fleet_gauges())
    PoolMetrics(registry)
    DispatchMetrics(registry)
    families: Iterable[Metric] = registry.collect()
    of_roles = dict.fromkeys(  # made of a producer, and of a worker
        ("embed_star_leader", "embed_star_slots_lost"), ("gauge", frozenset[str]())
    )
    assert {one.name: (one.type, one.labels) for one in documented()} == {
        **exposed(families),
        **of_roles,
    }


def test_a_listener_that_fails_costs_nobody_anything() -> None:
    heard: list[Event] = []

    def fails(event: Event) -> None:
        raise RuntimeError("a bug")

    listeners = Listeners()
    listeners.add(fails)
    listeners.add(heard.append)
    listeners(CacheRead(1, 2))
    assert heard == [CacheRead(1, 2)]


def test_a_missing_temporary_directory_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(ConfigError, match="TMPDIR"):
        SharedFiles()
