"""How long everything may take, and how these times depend on each other.

A few times are settings. The others are constants here, or follow from the settings, so that a
long call never outlasts its locks, its message or its process. `RULES` limits the settings;
docs/settings.md has the rules and the times as a table. All times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LOCK_MARGIN_S = 10.0
"""How much longer than a provider call a lock must last: loading, validating, one bulk write."""

RATE_LIMIT_WAIT_MAX_S = 10.0
"""Longest that a call waits for its place in the provider's rate limit."""

SHUTDOWN_MARGIN_S = 2.0
"""How long after the grace period a process may take to end."""

CONNECT_MAX_S = 5.0
"""Longest deadline for connecting; a server that is there answers in milliseconds."""

THROTTLED_PAUSE_S = 5.0
"""The fleet's pause after a 429 that names none. Limits are by the minute: a tenth of it."""

RETRY_BACKOFF_S = 1
"""First pause before a task is tried again; it doubles, with jitter."""

RETRY_BACKOFF_MAX_S = 8
"""Longest pause before a task is tried again. The default of three retries waits 1, 2 and 4."""

BREAKER_WINDOW_S = 60.0
"""The window in which the share of failed calls is counted: the period of most rate limits."""

IN_FLIGHT_WINDOW_S = 10.0
"""Rows are claimed for this much work ahead, at the measured throughput. With less, workers run
dry while the producer reads; with more, fresh rows wait behind old ones."""

POLL_INTERVAL_S = 1.0
"""The outbox is read at least this often, since notifications may be lost."""

BEAT_S = 1.5
"""A worker says this often that it lives."""

DEAD_AFTER_S = 8.0
"""A worker that was not heard for this long is given up, and its messages are requeued. One that
merely stood still finds that out before its next call."""

TURN_S = 3.0
"""A worker that had its message this long ago still has it: it beat since, or is not given up."""

LOST_RUN_S = 4.0
"""A run that Redis has forgotten is released after this, unless a worker says that it is at it."""

LOOK_S = 1.0
"""A producer looks for dead workers and lost runs this often."""

LIVENESS_TIMEOUT_S = 30.0
"""A loop without a heartbeat for this long is stuck: ten times what a slow machine takes."""

CONNECTION_MAX_AGE_S = 1800.0
"""A connection to the database is replaced after this, so that load follows new servers."""

CACHE_LOCAL_TTL_S = 3600.0
"""Longest life of a vector in a process."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The times that are settings, and the times that follow from them."""

    call_s: float = 30.0
    """PROVIDER_TOTAL_TIMEOUT_S."""
    lock_ttl_s: float = 45.0
    visibility_timeout_s: float = 300.0
    shutdown_grace_s: float = -1.0
    leader_lease_s: float = 10.0
    db_timeout_s: float = 30.0
    cache_ttl_s: float = 604_800.0
    is_limited: bool = False
    """Whether a call may have to wait for its place in a rate limit."""

    @property
    def connect_s(self) -> float:
        """Deadline for connecting to the provider."""
        return min(CONNECT_MAX_S, self.call_s / 6)

    @property
    def silence_s(self) -> float:
        """Longest silence within a provider's answer."""
        return self.call_s * 2 / 3

    @property
    def rate_limit_wait_s(self) -> float:
        """Longest that a call may wait for its place, so that its rows' locks outlast both."""
        spare_s = self.lock_ttl_s - self.call_s - LOCK_MARGIN_S
        return min(max(spare_s, 1.0), RATE_LIMIT_WAIT_MAX_S)

    @property
    def longest_call_s(self) -> float:
        """The longest that a call takes, with its wait and the work before and after it."""
        wait_s = self.rate_limit_wait_s if self.is_limited else 0.0
        return self.call_s + wait_s + LOCK_MARGIN_S / 2

    @property
    def defer_max_s(self) -> float:
        """Longest that a throttled batch is kept: its rows' locks and its message outlast it."""
        call_s = self.call_s + self.rate_limit_wait_s
        return max(
            1.0, min(self.lock_ttl_s - LOCK_MARGIN_S, self.visibility_timeout_s / 2 - call_s)
        )

    @property
    def batch_max_s(self) -> float:
        """Longest that one task goes on calling: it ends before its message is handed out again."""
        return max(1.0, self.visibility_timeout_s - self.call_s - self.rate_limit_wait_s - 1.0)

    @property
    def retry_backoff_max_s(self) -> int:
        """Longest pause before a retry, so that the waiting message is not handed out again."""
        spare_s = self.visibility_timeout_s / 2 - self.call_s
        return int(min(RETRY_BACKOFF_MAX_S, max(RETRY_BACKOFF_S, spare_s / 2)))

    @property
    def grace_s(self) -> float:
        """The grace period: how long running work may take to finish after SIGTERM."""
        if self.shutdown_grace_s >= 0:
            return self.shutdown_grace_s
        return min(self.call_s + LOCK_MARGIN_S, self.visibility_timeout_s)

    @property
    def rewind_s(self) -> float:
        """While work is under way, the outbox is read from its beginning this often."""
        return self.lock_ttl_s / 4

    @property
    def db_connect_timeout_s(self) -> float:
        """Deadline for connecting to the database and signing in."""
        return min(CONNECT_MAX_S, self.db_timeout_s / 3)

    @property
    def db_pool_wait_s(self) -> float:
        """Longest wait for a free connection to the database."""
        return self.db_timeout_s / 3

    @property
    def db_longest_s(self) -> float:
        """The longest that one query takes, from the wait for a connection to its end."""
        return self.db_pool_wait_s + self.db_connect_timeout_s + self.db_timeout_s

    @property
    def cache_local_ttl_s(self) -> float:
        """Life of a vector in a process: no longer than in Redis."""
        return min(CACHE_LOCAL_TTL_S, self.cache_ttl_s)


@dataclass(frozen=True, slots=True)
class Rule:
    """One inequality: a setting, its bound, and what would happen otherwise."""

    setting: str
    field: str
    relation: Literal["at least", "more than", "less than"]
    expression: str
    needs: frozenset[str]
    """The fields that `bound` reads."""
    bound: Callable[[Timings], float]
    otherwise: str

    def fault(self, timings: Timings) -> str:
        """What is wrong: the end of a sentence that begins with the setting. "" if it holds."""
        value, bound = getattr(timings, self.field), self.bound(timings)
        holds = {
            "at least": value >= bound,
            "more than": value > bound,
            "less than": value < bound,
        }[self.relation]
        if holds:
            return ""
        shown = self.expression.replace("`", "")
        return f"must be {self.relation} {shown} = {bound:g}, or {self.otherwise}"


RULES = (
    Rule(
        "LOCK_TTL_S",
        "lock_ttl_s",
        "at least",
        f"`PROVIDER_TOTAL_TIMEOUT_S` + {LOCK_MARGIN_S:g}",
        frozenset({"call_s"}),
        lambda t: t.call_s + LOCK_MARGIN_S,
        "a lock could end under a running call",
    ),
    Rule(
        "VISIBILITY_TIMEOUT_S",
        "visibility_timeout_s",
        "more than",
        f"twice `PROVIDER_TOTAL_TIMEOUT_S` + {RETRY_BACKOFF_S:g}",
        frozenset({"call_s"}),
        lambda t: 2 * (t.call_s + RETRY_BACKOFF_S),
        "Redis would hand running tasks out again",
    ),
    Rule(
        "SHUTDOWN_GRACE_S",
        "shutdown_grace_s",
        "less than",
        "`VISIBILITY_TIMEOUT_S`",
        frozenset({"visibility_timeout_s"}),
        lambda t: t.visibility_timeout_s,
        "Redis would hand out again what a stopping worker still does",
    ),
)
"""In the order in which the settings are read: each rule uses earlier settings only."""


def faults(timings: Timings) -> dict[str, str]:
    """Setting → what is wrong, for the settings that break a rule."""
    return {rule.setting: fault for rule in RULES if (fault := rule.fault(timings))}
