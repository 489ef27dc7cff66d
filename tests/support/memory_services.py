"""The core wired to the memory twins: no server, no sleep, a time that is told to pass.

All constructors of the core that tests without servers need are called here, and nowhere
else. mypy checks this module, and with it that each twin is what the core asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from embed_star.calling.breaker.breaker import Thresholds
from embed_star.calling.breaker.memory import MemoryBreaker
from embed_star.calling.canary import Canary
from embed_star.calling.gateway import CallLimits, ProviderGateway
from embed_star.calling.rate_limit.memory import MemoryRateLimiter
from embed_star.calling.rate_limit.rate_limiter import Limits as RateLimits
from embed_star.calling.validation import Validator
from embed_star.claims.memory import MemoryClaims, MemoryLocks
from embed_star.coordination.cache import VectorCache
from embed_star.coordination.memory import MemoryCacheBackend, MemoryInFlightLedger
from embed_star.embed import text
from embed_star.embed.bisection import Bisector
from embed_star.embed.embedder import Embedder, Limits
from embed_star.embed.poison import MemoryPoisonCounter
from embed_star.models import Space
from embed_star.produce.backlog import Backlog
from embed_star.produce.flow_control import FlowControl, FlowLimits
from embed_star.produce.lanes import Lanes
from embed_star.produce.leadership import Leadership
from embed_star.produce.notifier import Notifier
from embed_star.produce.producer import Producer, ProducerTimings
from embed_star.produce.reconcile import Reconciler
from embed_star.produce.runs import Dispatcher, RunStarter
from embed_star.produce.under_way import UnderWay
from embed_star.providers.base import Vectors
from embed_star.shutdown import Shutdown
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.store import MemoryStore
from embed_star.write.storer import Storer
from tests.support.clock import Clock
from tests.support.in_process_provider import InProcessProvider

LOCK_TTL_S = 60.0
CALL_S = 20.0
TURN_S = 3.0
TIMINGS = ProducerTimings(poll_s=3600.0, lease_s=3600.0, rewind_s=3600.0, quiet_rows=1000)
THRESHOLDS = Thresholds(
    failures=20,
    open_s=30.0,
    successes_to_close=1,
    failure_rate=0.5,
    min_requests=100,
    window_s=60.0,
    probe_s=CALL_S,
)


@dataclass(frozen=True)
class MemorySettings:
    """What a test may want otherwise; names are those of `Settings`, `Timings` and constants."""

    embedding_provider: str = "local"
    embedding_model: str = "test-model"
    dimensions: int = 8
    """As `tests.conftest.DIMENSIONS`, which cannot be imported where mypy looks."""
    text_fields: tuple[str, ...] = ("full_name", "description", "language", "topics")
    text_tokens: int = 500
    batch_size: int = 100
    batch_max_tokens: int = 50_000
    batch_max_s: float = 600.0
    chord_batches: int = 4
    max_in_flight_rows: int = 100_000
    in_flight_window_s: float = 10.0
    defer_max_s: float = 300.0
    visibility_timeout_s: float = 3600.0
    reconcile_page_rows: int = 500
    cache_local_entries: int = 1000
    parallel_workers: int = 4
    most_calls: int = 0
    """0: as many as `parallel_workers`."""
    requests_per_minute: int = 0


@dataclass
class MemoryBackends:
    """What the processes of a fleet share."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        clock = self.clock
        self.database = MemoryDatabase(clock)
        self.locks = MemoryLocks(clock)
        self.leases = MemoryLocks(clock)
        self.ledger = MemoryInFlightLedger(clock)
        self.vectors = MemoryCacheBackend(clock)
        self.suspects = MemoryPoisonCounter(clock)
        self.throttled = MemoryPoisonCounter(clock)
        self.breaker = MemoryBreaker(THRESHOLDS, clock)


class ClockedShutdown(Shutdown):
    """Waits take no time of the test's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(0.0)
        self._clock = clock

    def wait(self, seconds: float) -> None:
        self.check()
        self._clock.pass_s(seconds)


class NoClaim:
    """Of a call for no row."""

    def renew(self) -> None:
        """There are no locks."""


class MemoryServices:
    """One process over the twins; as `Services`."""

    def __init__(
        self, settings: MemorySettings, backends: MemoryBackends, provider: InProcessProvider
    ) -> None:
        clock = backends.clock
        self.settings = settings
        self.space = Space(
            settings.embedding_provider,
            settings.embedding_model,
            settings.dimensions,
            text.text_version(settings.text_fields, settings.text_tokens),
        )
        self.clock = clock
        self.provider = provider
        self.store = MemoryStore(backends.database, self.space, settings.text_fields)
        self.locks, self.leases, self.ledger = backends.locks, backends.leases, backends.ledger
        self.claims = MemoryClaims(
            self.locks,
            self.store.locks,
            ttl_s=LOCK_TTL_S,
            renew_before_s=CALL_S + 1.0,
            clock=clock,
        )
        self.shutdown = ClockedShutdown(clock)
        self.cache = VectorCache(
            backends.vectors,
            f"{self.space.name}:",
            settings.dimensions,
            source="server",
            ttl_s=math.inf,
            local_entries=settings.cache_local_entries,
            local_ttl_s=math.inf,
        )
        self._wire_calls(backends)
        self.embedder, self.storer = self._embedder(), self._storer()
        self.reconciler = Reconciler(
            repos=self.store.repos,
            vectors=self.store.vectors,
            outbox=self.store.outbox,
            under_way=UnderWay(self.store.outbox, self.store.locks),
            orphans=self.store.orphans,
            spaces=self.store.spaces,
            checkpoints=self.store.checkpoints,
            text_max_tokens=settings.text_tokens,
            page_rows=settings.reconcile_page_rows,
        )

    def _wire_calls(self, backends: MemoryBackends) -> None:
        settings, clock = self.settings, self.clock
        self.breaker = backends.breaker
        self.rate_limiter = MemoryRateLimiter(RateLimits(settings.requests_per_minute), clock=clock)
        validator = Validator()
        self.canary = Canary(validator, self.store.spaces, self.space)
        self.gateway = ProviderGateway(
            self.provider,
            breaker=self.breaker,
            rate_limiter=self.rate_limiter,
            canary=self.canary,
            shutdown=self.shutdown,
            limits=CallLimits(
                dimensions=settings.dimensions,
                first_calls=settings.parallel_workers,
                most_calls=settings.most_calls or settings.parallel_workers,
                throttled_pause_s=5.0,
                estimate_tokens=text.estimate_tokens,
            ),
            clock=clock,
        )
        self.bisector = Bisector(
            gateway=self.gateway,
            cache=self.cache,
            validator=validator,
            suspects=backends.suspects,
            throttled=backends.throttled,
            batch_max_tokens=settings.batch_max_tokens,
            batch_texts=settings.batch_size,
            most_s=settings.batch_max_s,
            clock=clock,
        )

    def backlog(self, dispatcher: Dispatcher) -> Backlog:
        limits = self._flow_limits()
        return Backlog(
            lanes=Lanes(self.store.outbox, self.space, self.clock),
            flow=FlowControl(
                ledger=self.ledger,
                breaker=self.breaker,
                rate_limiter=self.rate_limiter,
                limits=limits,
                clock=self.clock,
            ),
            runs=RunStarter(
                claims=self.claims,
                ledger=self.ledger,
                dispatcher=dispatcher,
                space=self.space,
                limits=limits,
                clock=self.clock,
            ),
            space_watch=self.store.space_watch,
            shutdown=self.shutdown,
        )

    def _flow_limits(self) -> FlowLimits:
        settings = self.settings
        return FlowLimits(
            batch_rows=settings.batch_size,
            batch_tokens=settings.batch_max_tokens,
            text_tokens=settings.text_tokens,
            chord_batches=settings.chord_batches,
            max_in_flight_rows=settings.max_in_flight_rows,
            window_s=settings.in_flight_window_s,
        )

    def call(self, *texts: str) -> Vectors:
        """One call of the provider, as a batch makes it."""
        with self.gateway.embed(texts, NoClaim()) as vectors:
            return vectors

    def ask_canary(self) -> None:
        """A call for our own text."""
        self.gateway.ask_canary(NoClaim())

    def producer(self, dispatcher: Dispatcher, owner: str = "producer") -> Producer:
        """A producer that no notification wakes but those of the ledger."""
        return Producer(
            backlog=self.backlog(dispatcher),
            leadership=Leadership(self.leases, owner, TIMINGS.lease_s),
            notifier=Notifier(self.ledger, None, poll_s=TIMINGS.poll_s),
            timings=TIMINGS,
        )

    def _embedder(self) -> Embedder:
        settings = self.settings
        return Embedder(
            repos=self.store.repos,
            passages=self.store.passages,
            claims=self.claims,
            ledger=self.ledger,
            cache=self.cache,
            bisector=self.bisector,
            space_watch=self.store.space_watch,
            limits=Limits(
                text_max_tokens=settings.text_tokens,
                defer_max_s=settings.defer_max_s,
                redelivered_s=settings.visibility_timeout_s,
                turn_s=TURN_S,
            ),
        )

    def _storer(self) -> Storer:
        return Storer(
            vectors=self.store.vectors,
            claims=self.claims,
            ledger=self.ledger,
            cache=self.cache,
            space=self.space,
            space_watch=self.store.space_watch,
            clock=self.clock,
        )
