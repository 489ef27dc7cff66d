"""What the core tells of its work: frozen events, for whoever listens.

Counters and spans are made of them (see `observe`); the core knows of neither. An event is
told in the thread, and at the moment, in which its work ended; durations are in seconds.
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
    """One call to the provider itself, without the wait for its slot."""

    outcome: str
    """`ok`, or what went wrong: see `calling.call_outcomes`."""
    texts: int
    seconds: float
    tokens: int | None = None
    """As the provider counted them, None where it does not say."""


@dataclass(frozen=True, slots=True)
class CacheRead:
    """The cache was asked before the provider."""

    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class VectorsJudged:
    """The validator has looked at the vectors of one call."""

    accepted: int
    refused: Mapping[str, int]
    """By reason."""


@dataclass(frozen=True, slots=True)
class RowsContended:
    """Rows that were not claimed, since somebody else holds them."""

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
    """Rows of a run that stay pending: put off, or another run's."""

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
