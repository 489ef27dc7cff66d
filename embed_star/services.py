"""The composition root: settings in, wired services out. Nothing connects until used."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import Self

import structlog
from redis import Redis

from embed_star import providers
from embed_star.backup.restoring import Restorer
from embed_star.backup.saving import Saver
from embed_star.calling.breaker import breaker
from embed_star.calling.breaker.breaker import Breaker, FallbackBreaker, NeverOpen, Thresholds
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.breaker.shared import RedisBreaker
from embed_star.calling.canary import Canary
from embed_star.calling.gateway import ProviderGateway
from embed_star.calling.instrumented import InstrumentedProvider
from embed_star.calling.rate_limit.memory import MemoryRateLimiter
from embed_star.calling.rate_limit.rate_limiter import Limits as RateLimits
from embed_star.calling.rate_limit.rate_limiter import RateLimiter
from embed_star.calling.rate_limit.shared import FallbackRateLimiter, RedisRateLimiter
from embed_star.calling.rate_limited import RateLimitedProvider
from embed_star.calling.validation import Validator
from embed_star.claims.redis_locks import RedisLocks
from embed_star.coordination import client
from embed_star.coordination.cache import VectorCache
from embed_star.coordination.dead_letters import DeadLetters
from embed_star.coordination.in_flight import InFlightLedger
from embed_star.coordination.names import cache_prefix_of, celery_prefix_of, prefix_of
from embed_star.coordination.queues import Queues
from embed_star.embed import text
from embed_star.embed.bisection import Buyer
from embed_star.embed.embedder import Embedder, Limits, Storer
from embed_star.embed.poison import PoisonCounter
from embed_star.errors import RedisUnavailable, TransientError
from embed_star.events import Emit, ignore_event
from embed_star.models import Space
from embed_star.produce.backlog import Backlog, Dispatcher, FlowControl
from embed_star.produce.reconcile import Reconciler
from embed_star.providers.base import Provider
from embed_star.search import Search
from embed_star.settings import LOCK_MARGIN_S, Settings
from embed_star.shutdown import Shutdown
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Database, Pool
from embed_star.store.migrations import Migrator, find_directory, read_migrations
from embed_star.store.tables.checkpoints import Checkpoints
from embed_star.store.tables.failures import Failures
from embed_star.store.tables.installation import Installation
from embed_star.store.tables.locks import LockTable
from embed_star.store.tables.orphans import Orphans
from embed_star.store.tables.outbox import Outbox
from embed_star.store.tables.records import Records
from embed_star.store.tables.repos import Repos
from embed_star.store.tables.space_watch import SpaceWatch
from embed_star.store.tables.spaces import Spaces
from embed_star.store.tables.timestamps import Timestamps
from embed_star.store.tables.vectors import Vectors

log = structlog.get_logger(__name__)

READY_POLL_S = 3.0
"""How often a database that is down at the start is tried again."""


def space_of(settings: Settings) -> Space:
    """The embedding space that the settings describe."""
    return Space(
        provider=settings.embedding_provider,
        model=settings.model,
        dimensions=settings.dimensions,
        text_version=text.text_version(settings.text_fields, settings.text_tokens),
    )


def target_of(settings: Settings) -> Target:
    """SurrealDB as the workload's user."""
    return Target(
        url=settings.db_url,
        user=settings.db_user,
        password=settings.db_pass.get_secret_value(),
        namespace=settings.db_namespace,
        database=settings.db_database,
        connect_timeout_s=settings.db_connect_timeout_s,
        timeout_s=settings.db_timeout_s,
    )


def call_s_of(settings: Settings) -> float:
    """The longest that a provider call takes, in seconds, its wait for a slot included."""
    limited = settings.requests_per_minute or settings.provider_tokens_per_minute
    wait_s = settings.budget_wait_s if limited else 0.0
    return settings.provider_total_timeout_s + wait_s + LOCK_MARGIN_S / 2


def thresholds_of(settings: Settings) -> Thresholds | None:
    """When the provider's breaker opens and closes; None for a provider that has none."""
    usual = breaker.DEFAULTS.get(settings.embedding_provider)
    if usual is None:
        return None
    return Thresholds(
        failures=settings.breaker_failures or usual.failures,
        open_s=settings.breaker_open_s or usual.open_s,
        successes_to_close=settings.breaker_successes or usual.successes_to_close,
        failure_rate=settings.breaker_failure_rate,
        min_requests=settings.breaker_min_requests,
        window_s=settings.breaker_window_s,
        probe_s=call_s_of(settings),
    )


@dataclass(frozen=True)
class Store:
    """Everything in SurrealDB, for one space."""

    database: Database
    space: Space
    text_fields: tuple[str, ...]
    installation_id: str = ""
    """The name that the settings give, if any."""

    @cached_property
    def installation(self) -> Installation:
        return Installation(self.database, self.installation_id)

    @cached_property
    def repos(self) -> Repos:
        return Repos(self.database, self.space, self.text_fields)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.database)

    @cached_property
    def vectors(self) -> Vectors:
        return Vectors(self.database, self.space)

    @cached_property
    def locks(self) -> LockTable:
        return LockTable(self.database)

    @cached_property
    def failures(self) -> Failures:
        return Failures(self.database, self.space)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.database, self.space)

    @cached_property
    def timestamps(self) -> Timestamps:
        return Timestamps(self.database)

    @cached_property
    def space_watch(self) -> SpaceWatch:
        return SpaceWatch(self.database, self.space)

    @cached_property
    def spaces(self) -> Spaces:
        return Spaces(self.database)

    @cached_property
    def migrator(self) -> Migrator:
        return Migrator(self.database, read_migrations(find_directory()))

    def check(self, *, to_write: bool = True) -> None:
        """Raise SchemaError, saying what to run, unless the schema fits this code.

        Raises StoreAuthError when the user may not write, and is to.
        """
        if to_write:
            self.database.check_rights()
        self.migrator.check()
        self.installation.name()
        self.spaces.check(self.space)


class Services:
    """All that a process needs, made when first asked for, closed together.

    Safe to share between threads. Not to be carried over a fork.
    """

    def __init__(
        self,
        settings: Settings,
        emit: Emit = ignore_event,
        *,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """`emit` is told what is done here; `sleep` replaces the waits between probes."""
        self.settings = settings
        self.emit = emit
        self._sleep = sleep
        self.space = space_of(settings)

    @cached_property
    def installation(self) -> str:
        """The settings', else the database's. Raises SchemaError and StoreUnavailable."""
        return self.settings.installation_id or self.store.installation.name()

    @cached_property
    def redis_prefix(self) -> str:
        """What names in Redis begin with. Raises as `installation`, and so does what uses it."""
        settings = self.settings
        return prefix_of(settings.db_namespace, settings.db_database, self.installation)

    @cached_property
    def endpoint(self) -> str:
        """A short name of the server that makes the vectors."""
        return hashlib.sha256(self.settings.endpoint.encode()).hexdigest()[:8]

    @cached_property
    def grace(self) -> Shutdown:
        return Shutdown(self.settings.grace_s)

    @cached_property
    def store(self) -> Store:
        settings = self.settings
        pool = Pool(
            target_of(settings),
            size=settings.db_pool_size,
            wait_s=settings.db_pool_wait_s,
            max_age_s=settings.db_connection_max_age_s,
        )
        database = Database(pool, conflict_retries=settings.db_conflict_retries)
        return Store(database, self.space, settings.text_fields, settings.installation_id)

    @cached_property
    def redis(self) -> Redis:
        return client.connect(self.settings.redis_url, self.settings.redis_timeout_s)

    @cached_property
    def locks(self) -> RedisLocks:
        return RedisLocks(self.redis, self.redis_prefix)

    @cached_property
    def leases(self) -> RedisLocks:
        """Who leads: no locks of rows, whose keys are anybody's."""
        return RedisLocks(self.redis, self.redis_prefix, "lease")

    @cached_property
    def ledger(self) -> InFlightLedger:
        return InFlightLedger(self.redis, self.redis_prefix)

    @cached_property
    def queues(self) -> Queues:
        return Queues(self.redis, celery_prefix_of(self.redis_prefix))

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.redis, self.redis_prefix)

    @cached_property
    def provider(self) -> Provider:
        return providers.create_provider(self.settings)

    @cached_property
    def breaker(self) -> Breaker:
        thresholds = thresholds_of(self.settings)
        if thresholds is None:
            return NeverOpen()
        name = f"{self.space.provider}:{self.space.model}:{self.endpoint}"
        shared = RedisBreaker(self.redis, self.redis_prefix, name, thresholds)
        return FallbackBreaker(shared, MemoryBreaker(thresholds))

    @cached_property
    def canary(self) -> Canary:
        return Canary(self.validator, self.store.spaces, self.space)

    @cached_property
    def calls(self) -> ProviderGateway:
        return ProviderGateway(
            self.rate_limited_provider(),
            self.breaker,
            self.grace,
            canary=self.canary,
            apart=self.rate_limited_provider(pauses=False),
            dimensions=self.space.dimensions,
            at_once=self.settings.parallel_workers,
            sleep=self._sleep,
        )

    @cached_property
    def rate_limits(self) -> RateLimits:
        settings = self.settings
        return RateLimits(
            settings.requests_per_minute,
            settings.provider_tokens_per_minute,
            settings.provider_search_share,
        )

    @cached_property
    def budget(self) -> RateLimiter:
        """The fleet's, for this model; of no use where the model is in the process."""
        settings, wait_s = self.settings, self.settings.budget_wait_s
        local = MemoryRateLimiter(self.rate_limits, max_wait_s=wait_s)
        if settings.embedding_provider == "local":
            return local
        name = f"{settings.embedding_provider}:{settings.model}:{self.endpoint}"
        shared = RedisRateLimiter(
            self.redis, self.redis_prefix, name, self.rate_limits, max_wait_s=wait_s
        )
        return FallbackRateLimiter(shared, local)

    def rate_limited_provider(self, *, reserved: bool = False, pauses: bool = True) -> Provider:
        """The provider, asked within the budget; see `RateLimitedProvider`."""
        return RateLimitedProvider(
            InstrumentedProvider(self.provider, self.emit),
            self.budget,
            text.estimate_tokens,
            throttled_pause_s=self.settings.provider_throttled_pause_s,
            reserved=reserved,
            pauses=pauses,
            sleep=self.grace.wait,
        )

    @cached_property
    def cache_redis(self) -> Redis:
        settings = self.settings
        if not settings.cache_url:
            return self.redis
        return client.connect(settings.cache_url, settings.redis_timeout_s)

    @cached_property
    def cache(self) -> VectorCache:
        settings = self.settings
        prefix = cache_prefix_of(settings.db_namespace, settings.db_database, self.installation)
        return VectorCache(
            self.cache_redis,
            f"{prefix}{self.space.name}:",
            self.space.dimensions,
            source=self.endpoint,
            ttl_s=settings.cache_ttl_s,
            local_entries=settings.cache_local_entries,
            local_ttl_s=settings.cache_local_ttl_s,
            emit=self.emit,
        )

    @cached_property
    def validator(self) -> Validator:
        settings = self.settings
        return Validator(
            settings.validate_magnitude_min,
            settings.validate_magnitude_max,
            settings.validate_zero_ratio_max,
        )

    @cached_property
    def embedder(self) -> Embedder:
        settings = self.settings
        return Embedder(
            repos=self.store.repos,
            locks=self.locks,
            lock_table=self.store.locks,
            ledger=self.ledger,
            cache=self.cache,
            buyer=self.make_buyer(),
            space_watch=self.store.space_watch,
            space=self.space,
            limits=Limits(
                text_max_tokens=settings.text_tokens,
                call_s=call_s_of(settings),
                lock_ttl_s=settings.lock_ttl_s,
                defer_max_s=settings.defer_max_s,
                redelivered_s=settings.visibility_timeout_s,
            ),
        )

    @cached_property
    def throttled(self) -> PoisonCounter:
        server = f"{self.space.name}:{self.endpoint}"
        return PoisonCounter(self.redis, self.redis_prefix, server, "throttled")

    def make_buyer(self, clock: Callable[[], float] = time.monotonic) -> Buyer:
        """What gets vectors from the provider into the cache."""
        return Buyer(
            calls=self.calls,
            cache=self.cache,
            validator=self.validator,
            suspects=PoisonCounter(
                self.redis, self.redis_prefix, f"{self.space.name}:{self.endpoint}"
            ),
            throttled=self.throttled,
            batch_max_tokens=self.settings.batch_max_tokens,
            most_s=self.settings.batch_max_s,
            emit=self.emit,
            clock=clock,
        )

    @cached_property
    def storer(self) -> Storer:
        return Storer(
            vectors=self.store.vectors,
            locks=self.locks,
            lock_table=self.store.locks,
            ledger=self.ledger,
            cache=self.cache,
            space=self.space,
            space_watch=self.store.space_watch,
            emit=self.emit,
        )

    @cached_property
    def search(self) -> Search:
        return Search(
            vectors=self.store.vectors,
            provider=self.rate_limited_provider(reserved=True),
            cache=self.cache,
            validator=self.validator,
            canary=self.canary,
            max_tokens=self.settings.text_tokens,
        )

    def backlog(self, dispatcher: Dispatcher) -> Backlog:
        """A backlog that hands its runs to `dispatcher`."""
        settings = self.settings
        return Backlog(
            outbox=self.store.outbox,
            locks=self.locks,
            lock_table=self.store.locks,
            ledger=self.ledger,
            breaker=self.breaker,
            dispatcher=dispatcher,
            space=self.space,
            space_watch=self.store.space_watch,
            flow=FlowControl(
                batch_rows=settings.batch_size,
                batch_tokens=settings.batch_max_tokens,
                text_tokens=settings.text_tokens,
                chord_batches=settings.chord_batches,
                max_in_flight_rows=settings.max_in_flight_rows,
                window_s=settings.in_flight_window_s,
                lock_ttl_s=settings.lock_ttl_s,
                limit_rows_s=self.rate_limits.requests_s * settings.batch_size,
            ),
            budget=self.budget,
            emit=self.emit,
            grace=self.grace,
        )

    @cached_property
    def saver(self) -> Saver:
        store = self.store
        return Saver(
            records=Records(store.database),
            spaces=store.spaces,
            surrealdb=".".join(map(str, store.database.version)),
            migration=store.migrator.latest,
        )

    @cached_property
    def restorer(self) -> Restorer:
        store = self.store
        return Restorer(
            records=Records(store.database),
            locks=store.locks,
            spaces=store.spaces,
            checkpoints=store.checkpoints,
            lock_ttl_s=self.settings.lock_ttl_s,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            repos=self.store.repos,
            vectors=self.store.vectors,
            outbox=self.store.outbox,
            orphans=Orphans(self.store.database),
            spaces=self.store.spaces,
            checkpoints=self.store.checkpoints,
            text_max_tokens=self.settings.text_tokens,
            page_rows=self.settings.reconcile_page_rows,
        )

    def check(self) -> None:
        """As `Store.check`; say so when Redis may drop queued work.

        Raises StoreUnavailable, and ConfigError for a Redis Cluster. A Redis that is
        away is no reason not to start.
        """
        self.store.check()
        self.installation = self.store.installation.name()
        with suppress(RedisUnavailable):
            self.check_redis()
            if policy := client.eviction_policy(self.redis):
                log.error("redis_evicts_keys", reason=client.EVICTS.format(policy=policy))

    def check_redis(self) -> None:
        """Raise ConfigError when a Redis is a kind that cannot be used; RedisUnavailable."""
        client.check_single(self.redis)
        if self.settings.cache_url:
            client.check_single(self.cache_redis)

    def await_ready(self, on_try: Callable[[], None] = lambda: None) -> None:
        """`check`, and a database that is down is waited for; `on_try` is called each time.

        Raises SchemaError, and ShuttingDown when the process is to end.
        """
        for wait_s in chain((0.2, 0.5, 1.0, 2.0), repeat(READY_POLL_S)):
            on_try()
            try:
                self.check()
            except TransientError as error:
                log.warning("not_ready", reason=str(error))
                self.grace.wait(wait_s)
            else:
                return

    def cut_calls(self) -> None:
        """Break off all calls to the provider, for the end of this process."""
        if "provider" in self.__dict__:
            self.provider.cut()

    def close(self) -> None:
        """Close what was opened."""
        made = self.__dict__
        if "provider" in made:
            self.provider.close()
        if "store" in made:
            self.store.database.close()
        if "cache_redis" in made:
            self.cache_redis.close()
        if "redis" in made:
            self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def open_store(settings: Settings, *, to_write: bool = True) -> Iterator[Store]:
    """The store alone, checked as by `Store.check`."""
    with Services(settings) as services:
        services.store.check(to_write=to_write)
        yield services.store
