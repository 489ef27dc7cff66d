"""The status report: rows embedded, pending, in flight and failed, right now."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from embed_star.calling.breaker.breaker import State
from embed_star.errors import RedisUnavailable
from embed_star.models import Lane
from embed_star.services import Services


@dataclass(frozen=True, slots=True)
class Report:
    """The status at one moment. A value that cannot be read is None; `problems` says why."""

    space: str
    provider: str
    model: str
    dimensions: int
    embedded: int
    passages: int
    """Parts of READMEs that have a vector, of all rows."""
    pending: dict[str, int]
    """Outbox records by lane; a repo that changed twice counts twice."""
    oldest_pending_s: dict[str, float | None]
    failed: dict[str, int]
    """Rows that cannot be embedded, by reason. They are not pending."""
    in_flight: int | None
    """Rows of runs under way; they are also pending until they are written."""
    done: dict[str, int] | None
    """Rows by outcome since Redis was last empty."""
    provider_phase: str | None
    """The breaker: `closed`, calls pass; `open`, calls pause; `half_open`, one call probes."""
    provider_retry_in_s: float | None
    """Seconds until the next probe; 0 when calls pass."""
    messages_set_aside: int | None
    """Dead letters: messages of a version or space that no worker has. Their rows are pending."""
    workers: list[str] | None
    pool: dict[str, int]
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """What `embed-star status --json` prints."""
        return asdict(self)


def report(services: Services, workers: list[str] | None = None) -> Report:
    """Ask the database and Redis; Redis may be down.

    `workers` are the names of the workers that answered a ping; None when none was sent.
    Raises StoreUnavailable.
    """
    store = services.store
    problems: list[str] = []
    in_flight: int | None = None
    done: dict[str, int] | None = None
    breaker: State | None = None
    set_aside: int | None = None
    try:
        in_flight = services.ledger.counts().in_flight
        done = services.ledger.totals()
        breaker = services.breaker.state()
        set_aside = services.dead_letters.count()
        if throttled := services.throttled.alone():
            problems.append(
                f"the provider answers 429 to {throttled} texts while it answers others: they are "
                "tried again, and set aside as too_long if it stays so"
            )
    except RedisUnavailable as error:
        problems.append(str(error))
    return Report(
        space=services.space.name,
        provider=services.space.provider,
        model=services.space.model,
        dimensions=services.space.dimensions,
        embedded=store.vectors.count(),
        passages=store.passages.count(),
        pending={lane.name.lower(): rows for lane, rows in store.outbox.counts().items()},
        oldest_pending_s={lane.name.lower(): _age_s(services, lane) for lane in Lane},
        failed=store.failures.by_reason(),
        in_flight=in_flight,
        done=done,
        provider_phase=None if breaker is None else breaker.phase.value,
        provider_retry_in_s=None if breaker is None else breaker.retry_in_s,
        messages_set_aside=set_aside,
        workers=workers,
        pool=asdict(store.database.pool.stats()),
        problems=problems,
    )


def _age_s(services: Services, lane: Lane) -> float | None:
    at_ms = services.store.outbox.oldest_at_ms(lane)
    return None if at_ms is None else max(0.0, round(time.time() - at_ms / 1000, 1))
