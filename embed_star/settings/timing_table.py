"""The table of times for docs/settings.md: the rules, and the times that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from embed_star.timings import (
    BEAT_S,
    CACHE_LOCAL_TTL_S,
    CONNECT_MAX_S,
    DEAD_AFTER_S,
    LOCK_MARGIN_S,
    LOST_RUN_S,
    RATE_LIMIT_WAIT_MAX_S,
    RETRY_BACKOFF_MAX_S,
    RETRY_BACKOFF_S,
    RULES,
    Timings,
)


@dataclass(frozen=True, slots=True)
class Derived:
    """A time that follows from the settings: its formula and its reason."""

    name: str
    formula: str
    value: Callable[[Timings], float]
    reason: str


DERIVED = (
    Derived(
        "connecting to the provider",
        f"a sixth of `PROVIDER_TOTAL_TIMEOUT_S`, at most {CONNECT_MAX_S:g}",
        lambda t: t.connect_s,
        "a server that is there answers in milliseconds",
    ),
    Derived(
        "a silence of the provider",
        "two thirds of `PROVIDER_TOTAL_TIMEOUT_S`",
        lambda t: t.silence_s,
        "a dead connection is noticed before the call ends; the calls after one may be silent "
        "for all of it, for a model that loads",
    ),
    Derived(
        "a call's wait for the rate limit",
        f"what `LOCK_TTL_S` leaves of a call and {LOCK_MARGIN_S:g}, 1 to {RATE_LIMIT_WAIT_MAX_S:g}",
        lambda t: t.rate_limit_wait_s,
        "the rows' locks outlast the wait and the call",
    ),
    Derived(
        "a throttled batch is kept",
        f"`LOCK_TTL_S` - {LOCK_MARGIN_S:g}, at most half of `VISIBILITY_TIMEOUT_S` "
        "less a call and its wait",
        lambda t: t.defer_max_s,
        "its locks and its message outlast it",
    ),
    Derived(
        "a task goes on calling, or waits for its place",
        "`VISIBILITY_TIMEOUT_S` less a call, its wait and 1",
        lambda t: t.batch_max_s,
        "it ends before Redis hands its message out again",
    ),
    Derived(
        "the pause before a task's retry",
        f"{RETRY_BACKOFF_S:g}, doubled each time, at most {RETRY_BACKOFF_MAX_S:g} and half of "
        "what half of `VISIBILITY_TIMEOUT_S` leaves of a call",
        lambda t: t.retry_backoff_max_s,
        "a waiting task is not handed out again",
    ),
    Derived(
        "the grace of `SHUTDOWN_GRACE_S` = -1",
        f"`PROVIDER_TOTAL_TIMEOUT_S` + {LOCK_MARGIN_S:g}, at most `VISIBILITY_TIMEOUT_S`",
        lambda t: t.grace_s,
        "the calls under way may finish, and be written",
    ),
    Derived(
        "a probe of the circuit breaker",
        f"a call and its wait + {LOCK_MARGIN_S / 2:g}",
        lambda t: t.longest_call_s,
        "another probe begins when this one must be over",
    ),
    Derived(
        "connecting to the database",
        f"a third of `DB_TIMEOUT_S`, at most {CONNECT_MAX_S:g}",
        lambda t: t.db_connect_timeout_s,
        "a query waits for a connection no longer than it may run",
    ),
    Derived(
        "a wait for a free connection",
        "a third of `DB_TIMEOUT_S`",
        lambda t: t.db_pool_wait_s,
        "an exhausted pool is told from a slow database",
    ),
    Derived(
        "the outbox is read from its beginning",
        "a quarter of `LOCK_TTL_S`",
        lambda t: t.rewind_s,
        "rows whose lock has ended are found soon",
    ),
    Derived(
        "a worker without a sign of life is given up",
        f"{DEAD_AFTER_S:g}; each gives one every {BEAT_S:g}",
        lambda _: DEAD_AFTER_S,
        "its messages go to others long before Redis hands them out again",
    ),
    Derived(
        "a run that Redis has forgotten is released",
        f"{LOST_RUN_S:g}",
        lambda _: LOST_RUN_S,
        "each worker has said by then which runs it works on",
    ),
    Derived(
        "a vector's life in a process",
        f"`CACHE_TTL_S`, at most {CACHE_LOCAL_TTL_S:g}",
        lambda t: t.cache_local_ttl_s,
        "a process keeps no vector longer than Redis does",
    ),
)


def table(timings: Timings | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Rows of name, formula, seconds with `timings` (by default, the defaults), and reason."""
    shown = timings or Timings()
    for rule in RULES:
        limit = f"{rule.relation} {rule.expression}"
        yield (
            f"the setting `{rule.setting}`",
            limit,
            f"{rule.bound(shown):g}",
            f"or {rule.otherwise}",
        )
    for one in DERIVED:
        yield one.name, one.formula, f"{one.value(shown):g}", one.reason
