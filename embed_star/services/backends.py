"""SurrealDB and Redis, wired from the settings. Nothing connects until used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from embed_star.coordination.names import cache_prefix_of, celery_prefix_of, prefix_of
from embed_star.events import Emit, ignore_event
from embed_star.services.store import Store, space_of, target_of
from embed_star.settings import Settings
from embed_star.shutdown import Shutdown
from embed_star.store.client.pool import Database, Pool
from embed_star.timings import CONNECTION_MAX_AGE_S

if TYPE_CHECKING:
    from redis import Redis

    from embed_star.claims.redis_locks import RedisLocks
    from embed_star.coordination.cache import VectorCache
    from embed_star.coordination.dead_letters import DeadLetters
    from embed_star.coordination.in_flight import RedisInFlightLedger
    from embed_star.coordination.queues import Queues
    from embed_star.coordination.workers import Workers

CONFLICT_RETRIES = 8
"""Retries of a write that met another one: a bulk load beside the workers needs up to five."""

CACHE_LOCAL_ENTRIES = 4096
"""Vectors that a process keeps: the work of some minutes, and 12 MB of 768 dimensions."""


class Backends:
    """The store, and everything in Redis, made when first asked for."""

    def __init__(
        self,
        settings: Settings,
        emit: Emit = ignore_event,
        *,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """`emit` gets the events of all parts. `sleep` replaces the waits between probes."""
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
        """The prefix of names in Redis. Raises as `installation` does."""
        settings = self.settings
        return prefix_of(settings.db_namespace, settings.db_database, self.installation)

    @cached_property
    def endpoint(self) -> str:
        """A short name of the server that makes the vectors."""
        return hashlib.sha256(self.settings.endpoint.encode()).hexdigest()[:8]

    @cached_property
    def shutdown(self) -> Shutdown:
        return Shutdown(self.settings.timings.grace_s)

    @cached_property
    def store(self) -> Store:
        settings = self.settings
        pool = Pool(
            target_of(settings),
            size=settings.db_pool_size,
            wait_s=settings.timings.db_pool_wait_s,
            max_age_s=CONNECTION_MAX_AGE_S,
        )
        database = Database(pool, conflict_retries=CONFLICT_RETRIES)
        return Store(database, self.space, settings.text_fields, settings.installation_id)

    @cached_property
    def redis(self) -> Redis:
        from embed_star.coordination import client

        return client.connect(self.settings.redis_url, self.settings.redis_timeout_s)

    @cached_property
    def locks(self) -> RedisLocks:
        from embed_star.claims.redis_locks import RedisLocks

        return RedisLocks(self.redis, self.redis_prefix)

    @cached_property
    def leases(self) -> RedisLocks:
        """The leases of leaders, apart from locks of rows: a row may have any key."""
        from embed_star.claims.redis_locks import RedisLocks

        return RedisLocks(self.redis, self.redis_prefix, "lease")

    @cached_property
    def ledger(self) -> RedisInFlightLedger:
        from embed_star.coordination.in_flight import RedisInFlightLedger

        return RedisInFlightLedger(self.redis, self.redis_prefix)

    @cached_property
    def queues(self) -> Queues:
        from embed_star.coordination.queues import Queues

        return Queues(self.redis, celery_prefix_of(self.redis_prefix))

    @cached_property
    def workers(self) -> Workers:
        from embed_star.coordination.workers import Workers

        return Workers(self.redis, self.redis_prefix, celery_prefix_of(self.redis_prefix))

    @cached_property
    def dead_letters(self) -> DeadLetters:
        from embed_star.coordination.dead_letters import DeadLetters

        return DeadLetters(self.redis, self.redis_prefix)

    @cached_property
    def cache_redis(self) -> Redis:
        from embed_star.coordination import client

        settings = self.settings
        if not settings.cache_url:
            return self.redis
        return client.connect(settings.cache_url, settings.redis_timeout_s)

    @cached_property
    def cache(self) -> VectorCache:
        from embed_star.coordination.cache import RedisCacheBackend, VectorCache

        settings = self.settings
        prefix = cache_prefix_of(settings.db_namespace, settings.db_database, self.installation)
        return VectorCache(
            RedisCacheBackend(self.cache_redis),
            f"{prefix}{self.space.name}:",
            self.space.dimensions,
            source=self.endpoint,
            ttl_s=settings.cache_ttl_s,
            local_entries=CACHE_LOCAL_ENTRIES,
            local_ttl_s=settings.timings.cache_local_ttl_s,
            emit=self.emit,
        )
