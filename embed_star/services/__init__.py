"""The composition root: settings in, wired services out. Nothing connects until used, and no part
is imported until it is made: a process has only those that it needs.

Each module builds on the one before: store, backends, calling, searching, and here the use cases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Self

import structlog

from embed_star.errors import RedisUnavailable, TransientError
from embed_star.services.searching import Searching
from embed_star.settings import Settings
from embed_star.timings import DEAD_AFTER_S, IN_FLIGHT_WINDOW_S, LOOK_S, LOST_RUN_S, TURN_S

if TYPE_CHECKING:
    from embed_star.backup.restoring import Restorer
    from embed_star.backup.saving import Saver
    from embed_star.claims.claims import Claims
    from embed_star.embed.bisection import Bisector
    from embed_star.embed.embedder import Embedder
    from embed_star.embed.poison import RedisPoisonCounter
    from embed_star.models import Key
    from embed_star.produce.backlog import Backlog
    from embed_star.produce.flow_control import FlowLimits
    from embed_star.produce.lost_work import LostWork
    from embed_star.produce.reconcile import Reconciler
    from embed_star.produce.runs import Dispatcher
    from embed_star.services.store import Store
    from embed_star.write.storer import Storer

log = structlog.get_logger(__name__)

READY_POLL_S = 3.0
"""How often a database that is down at the start is tried again."""

RECONCILE_PAGE_ROWS = 500
"""Rows that one reconcile query reads: some 0.1 s of the database's time, and 1 MB of texts."""


class Services(Searching):
    """All parts of a process, each made when first used, and closed together.

    Threads may share it. A forked child must make its own.
    """

    @cached_property
    def claims(self) -> Claims:
        from embed_star.claims.claims import Claims

        settings = self.settings
        return Claims(
            self.locks,
            self.store.locks,
            ttl_s=settings.lock_ttl_s,
            renew_before_s=settings.timings.longest_call_s + 1.0,
            emit=self.emit,
        )

    @cached_property
    def embedder(self) -> Embedder:
        from embed_star.embed.embedder import Embedder, Limits

        settings = self.settings
        return Embedder(
            repos=self.store.repos,
            passages=self.store.passages,
            claims=self.claims,
            ledger=self.ledger,
            cache=self.cache,
            bisector=self.make_bisector(),
            space_watch=self.store.space_watch,
            limits=Limits(
                text_max_tokens=settings.text_tokens,
                defer_max_s=settings.timings.defer_max_s,
                redelivered_s=settings.visibility_timeout_s,
                turn_s=TURN_S,
            ),
        )

    @cached_property
    def throttled(self) -> RedisPoisonCounter:
        from embed_star.embed.poison import RedisPoisonCounter

        server = f"{self.space.name}:{self.endpoint}"
        return RedisPoisonCounter(self.redis, self.redis_prefix, server, "throttled")

    def make_bisector(self, clock: Callable[[], float] = time.monotonic) -> Bisector:
        """Makes the bisector, which gets vectors from the provider into the cache."""
        from embed_star.embed.bisection import Bisector
        from embed_star.embed.poison import RedisPoisonCounter

        return Bisector(
            gateway=self.gateway,
            cache=self.cache,
            validator=self.validator,
            suspects=RedisPoisonCounter(
                self.redis, self.redis_prefix, f"{self.space.name}:{self.endpoint}"
            ),
            throttled=self.throttled,
            batch_max_tokens=self.settings.batch_max_tokens,
            batch_texts=self.settings.batch_rows,
            most_s=self.settings.timings.batch_max_s,
            emit=self.emit,
            clock=clock,
        )

    @cached_property
    def storer(self) -> Storer:
        from embed_star.write.storer import Storer

        return Storer(
            vectors=self.store.vectors,
            claims=self.claims,
            ledger=self.ledger,
            cache=self.cache,
            space=self.space,
            space_watch=self.store.space_watch,
            emit=self.emit,
        )

    @cached_property
    def lost_work(self) -> LostWork:
        from embed_star.produce.lost_work import LostWork, Patience

        return LostWork(
            workers=self.workers,
            ledger=self.ledger,
            claims=self.claims,
            patience=Patience(LOOK_S, dead_after_s=DEAD_AFTER_S, lost_run_s=LOST_RUN_S),
        )

    def backlog(
        self, dispatcher: Dispatcher, on_started: Callable[[str, Sequence[Key]], None] | None = None
    ) -> Backlog:
        """A backlog that hands its runs to `dispatcher`, and tells each to `on_started`."""
        from embed_star.produce.backlog import Backlog
        from embed_star.produce.flow_control import FlowControl
        from embed_star.produce.lanes import Lanes
        from embed_star.produce.runs import RunStarter

        limits = self._flow_limits
        return Backlog(
            lanes=Lanes(self.store.outbox, self.space),
            flow=FlowControl(
                ledger=self.ledger,
                breaker=self.breaker,
                rate_limiter=self.rate_limiter,
                limits=limits,
            ),
            runs=RunStarter(
                claims=self.claims,
                ledger=self.ledger,
                dispatcher=dispatcher,
                space=self.space,
                limits=limits,
                on_started=on_started,
                emit=self.emit,
            ),
            space_watch=self.store.space_watch,
            shutdown=self.shutdown,
        )

    @cached_property
    def _flow_limits(self) -> FlowLimits:
        from embed_star.produce.flow_control import FlowLimits

        settings = self.settings
        return FlowLimits(
            batch_rows=settings.batch_rows,
            batch_tokens=settings.batch_max_tokens,
            text_tokens=settings.text_tokens,
            chord_batches=settings.chord_batches,
            max_in_flight_rows=settings.max_in_flight_rows,
            window_s=IN_FLIGHT_WINDOW_S,
            limit_rows_s=self.rate_limits.requests_s * settings.batch_rows,
        )

    @cached_property
    def saver(self) -> Saver:
        from embed_star.backup.saving import Saver
        from embed_star.store.tables.records import Records

        store = self.store
        return Saver(
            records=Records(store.database),
            spaces=store.spaces,
            surrealdb=".".join(map(str, store.database.version)),
            migration=store.migrator.latest,
        )

    @cached_property
    def restorer(self) -> Restorer:
        from embed_star.backup.restoring import Restorer
        from embed_star.store.tables.records import Records

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
        from embed_star.produce.reconcile import Reconciler
        from embed_star.produce.under_way import UnderWay
        from embed_star.store.tables.orphans import SurrealOrphans

        return Reconciler(
            repos=self.store.repos,
            vectors=self.store.vectors,
            outbox=self.store.outbox,
            under_way=UnderWay(self.store.outbox, self.store.locks),
            orphans=SurrealOrphans(self.store.database),
            spaces=self.store.spaces,
            checkpoints=self.store.checkpoints,
            text_max_tokens=self.settings.text_tokens,
            page_rows=RECONCILE_PAGE_ROWS,
        )

    def check(self) -> None:
        """Check the store (`Store.check`) and Redis; log if Redis may drop queued work.

        Raises StoreUnavailable, and ConfigError for a Redis Cluster. A Redis that cannot be
        reached is no error: the process may start.
        """
        from embed_star.coordination import client

        self.store.check()
        self.installation = self.store.installation.name()
        with suppress(RedisUnavailable):
            self.check_redis()
            if policy := client.eviction_policy(self.redis):
                log.error("redis_evicts_keys", reason=client.EVICTS.format(policy=policy))

    def check_redis(self) -> None:
        """Raise ConfigError if a Redis is a cluster. Raises RedisUnavailable."""
        from embed_star.coordination import client

        client.check_single(self.redis)
        if self.settings.cache_url:
            client.check_single(self.cache_redis)

    def await_ready(self, on_try: Callable[[], None] = lambda: None) -> None:
        """Call `check` until the database is up, and `on_try` before each try.

        Raises SchemaError, and ShuttingDown when the process is to end.
        """
        for wait_s in chain((0.2, 0.5, 1.0, 2.0), repeat(READY_POLL_S)):
            on_try()
            try:
                self.check()
            except TransientError as error:
                log.warning("not_ready", reason=str(error))
                self.shutdown.wait(wait_s)
            else:
                return

    def abort_calls(self) -> None:
        """Abort all calls to the provider, for the end of this process."""
        if "gateway" in self.__dict__:
            self.gateway.abort()

    def close(self) -> None:
        """Close all connections that were opened."""
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
