"""Frozen events that the core emits about its work.

`observe` turns them into counters and spans; the core knows neither. An event is emitted in
the thread that did the work, as soon as the work has ended; durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from embed_star.models import Lane, Outcome

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderCalled:
    """One call to the provider, without the wait for the rate limit."""

    outcome: str
    """`ok`, or what went wrong: see `calling.call_outcomes`."""
    texts: int
    seconds: float
    tokens: int | None = None
    """As the provider counted them, None where it does not say."""


@dataclass(frozen=True, slots=True)
class ConcurrencyChanged:
    """So many calls may this process have with the provider from now on."""

    calls: int


@dataclass(frozen=True, slots=True)
class CacheRead:
    """One batch was looked up in the cache."""

    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class VectorsJudged:
    """The vectors of one call were validated."""

    accepted: int
    refused: Mapping[str, int]
    """By reason."""


@dataclass(frozen=True, slots=True)
class RowsContended:
    """Rows that were not claimed because another run holds them."""

    layer: str
    """`redis` or `surrealdb`."""
    rows: int


@dataclass(frozen=True, slots=True)
class RunDispatched:
    """A run was claimed and enqueued."""

    run_id: str
    lane: Lane
    rows: int
    batches: int
    oldest_ms: int
    """When the oldest of its changes was written, ms since 1970."""
    claim_s: float
    dispatch_s: float


@dataclass(frozen=True, slots=True)
class RowsWritten:
    """One transaction of a run was committed; `outcomes` are the rows that it settled."""

    outcomes: Sequence[Outcome]
    seconds: float


@dataclass(frozen=True, slots=True)
class RowsLeft:
    """Rows of a run that stay pending: deferred, or held by another run."""

    deferred: int
    lost: int


@dataclass(frozen=True, slots=True)
class TaskPutOff:
    """A task will be tried again later."""

    task: str


@dataclass(frozen=True, slots=True)
class LoopFailed:
    """A loop met an error that it does not know, and goes on."""

    part: str
    """`producer`, `doorbell` or `runs`."""


Event = (
    ProviderCalled
    | ConcurrencyChanged
    | CacheRead
    | VectorsJudged
    | RowsContended
    | RunDispatched
    | RowsWritten
    | RowsLeft
    | TaskPutOff
    | LoopFailed
)
Emit = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Listens to nothing."""
    del event


class Listeners:
    """An `Emit` that tells others. One that fails has missed an event, and nothing else."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Any], None]] = []

    def add(self, listener: Emit) -> None:
        self._listeners.append(listener)

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("listener_failed", event_type=type(event).__name__)
