"""The rate limiter of one process, with the arithmetic that all rate limiters share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from embed_star.calling.rate_limit.rate_limiter import (
    BURST_S,
    HORIZON_S,
    MAX_WAIT_S,
    MINUTE_US,
    PAUSE_MAX_S,
    Cost,
    Grant,
    Limits,
    State,
    Wait,
    pause_s,
    us_of,
)


@dataclass(slots=True)
class Ledger:
    """The state of a rate limiter, with the names used in Redis; times are µs of its clock."""

    requests: int = 0
    """Where the line of requests ends: the earliest time of its next slot."""
    tokens: int = 0
    reserve_requests: int = 0
    reserve_tokens: int = 0
    pause: int = 0
    minute: int = 0
    """Number of the minute that `requests_now` and `tokens_now` count."""
    requests_now: int = 0
    tokens_now: int = 0
    requests_before: int = 0
    """The count of the minute before."""
    tokens_before: int = 0

    def look(self, now: int) -> None:
        """Bring the state up to `now`, and shorten lines that only a set clock made so long."""
        furthest = now + us_of(MAX_WAIT_S + HORIZON_S)
        self.requests = min(self.requests, furthest)
        self.tokens = min(self.tokens, furthest)
        self.reserve_requests = min(self.reserve_requests, furthest)
        self.reserve_tokens = min(self.reserve_tokens, furthest)
        self.pause = min(self.pause, now + us_of(PAUSE_MAX_S))
        minute = now // MINUTE_US
        if minute != self.minute:
            follows = minute == self.minute + 1
            self.requests_before = self.requests_now if follows else 0
            self.tokens_before = self.tokens_now if follows else 0
            self.requests_now = self.tokens_now = 0
            self.minute = minute

    def next_slot(self, now: int, cost: Cost) -> tuple[int, bool]:
        """The earliest slot for `cost`, and whether it is in the reserve."""
        start = max(now, self.pause)
        line = max(
            start, self.requests * (cost.requests_us > 0), self.tokens * (cost.tokens_us > 0)
        )
        if not (cost.reserve_requests_us or cost.reserve_tokens_us):
            return line, False
        own = max(
            start,
            self.reserve_requests * (cost.reserve_requests_us > 0),
            self.reserve_tokens * (cost.reserve_tokens_us > 0),
        )
        return min(line, own), own < line

    def book(self, slot: int, cost: Cost, *, reserve: bool) -> None:
        """Give `slot` to a call: each line that it is in grows by its cost there."""
        begins = slot - us_of(BURST_S)
        if cost.requests_us:
            self.requests = max(self.requests, begins) + cost.requests_us
        if cost.tokens_us:
            self.tokens = max(self.tokens, begins) + cost.tokens_us
        if reserve and cost.reserve_requests_us:
            self.reserve_requests = max(self.reserve_requests, begins) + cost.reserve_requests_us
        if reserve and cost.reserve_tokens_us:
            self.reserve_tokens = max(self.reserve_tokens, begins) + cost.reserve_tokens_us
        self.requests_now += cost.requests
        self.tokens_now += cost.tokens

    def correct_tokens(self, tokens: int, tokens_us: int) -> None:
        """Add the difference between the counted tokens and the booked ones."""
        self.tokens = max(0, self.tokens + tokens_us)
        self.tokens_now = max(0, self.tokens_now + tokens)

    def return_request(self, grant: Grant) -> None:
        """Return the request of a call that was never made, if it is the last in the line."""
        if self.requests == grant.end_us:
            self.requests -= grant.cost.requests_us
            self.requests_now = max(0, self.requests_now - grant.cost.requests)

    def state(self, now: int, limits: Limits) -> State:
        """Its state at `now`. Call `look` first."""
        slot, _ = self.next_slot(now, Cost.of(limits, 1, 1))
        left = 1.0 - now % MINUTE_US / MINUTE_US
        shares = [
            (current + before * left) / limit
            for current, before, limit in (
                (self.requests_now, self.requests_before, limits.requests_per_minute),
                (self.tokens_now, self.tokens_before, limits.tokens_per_minute),
            )
            if limit
        ]
        used = min(1.0, max(shares, default=0.0))
        return State(max(0, self.pause - now) / 1e6, (slot - now) / 1e6, used)


class MemoryRateLimiter:
    """A `RateLimiter` of this process alone, over an injected clock."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """`max_wait_s`, `MAX_WAIT_S` at most, is how far ahead slots are booked."""
        self._limits = limits
        self._clock = clock
        self._max_wait_us = us_of(max_wait_s)
        self._one_at_a_time = threading.Lock()
        self._ledger = Ledger()

    def take(self, tokens: int, *, requests: int = 1, reserved: bool = False) -> Grant | Wait:
        cost = Cost.of(self._limits, requests, tokens, reserved=reserved)
        with self._one_at_a_time:
            now = self._look()
            slot, reserve = self._ledger.next_slot(now, cost)
            if slot - now > self._max_wait_us * (2 if reserved else 1):
                return Wait((slot - now - self._max_wait_us / 2) / 1e6)
            self._ledger.book(slot, cost, reserve=reserve)
            return Grant((slot - now) / 1e6, slot / 1e6, cost, reserve, self._ledger.requests)

    def settle(self, grant: Grant, actual_tokens: int) -> None:
        correction = Cost.of(self._limits, 0, actual_tokens)
        with self._one_at_a_time:
            self._look()
            self._ledger.correct_tokens(
                correction.tokens - grant.cost.tokens, correction.tokens_us - grant.cost.tokens_us
            )

    def refund(self, grant: Grant) -> None:
        with self._one_at_a_time:
            self._look()
            self._ledger.correct_tokens(-grant.cost.tokens, -grant.cost.tokens_us)
            self._ledger.return_request(grant)

    def pause(self, seconds: float) -> None:
        with self._one_at_a_time:
            now = self._look()
            self._ledger.pause = max(self._ledger.pause, now + us_of(pause_s(seconds)))

    def state(self) -> State:
        with self._one_at_a_time:
            now = self._look()
            return self._ledger.state(now, self._limits)

    def _look(self) -> int:
        now = us_of(self._clock())
        self._ledger.look(now)
        return now
