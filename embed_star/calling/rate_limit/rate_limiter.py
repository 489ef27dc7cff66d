"""The contract of rate limiters: requests and tokens a minute, as one even line of slots.

`memory.MemoryRateLimiter` is for one process, `shared.RedisRateLimiter` for a fleet: it has the
same arithmetic in Lua, line by line.

Slots are booked: `take` books the next free one and says how long it is until then, so a
worker sleeps once and does not poll. A slot is free when both lines are (GCRA: each call
moves the end of a line by its cost), at `PACED_PERCENT` of the limit and almost without
burst: a bucket that holds a minute's calls would let through twice the limit in a minute
that a strict provider counts. For requests, this is left of 60 s:

    60 / 0.97 - 60          1.86 s   what a full line leaves
    - BURST_S               0.20 s
    - reserve, 5 % of 10 s  0.50 s   slots out of turn, before the line makes up for them

so the provider sees no more than the limit in any 60 s, as long as the network delays of
calls differ by at most 1.1 s less one slot. For tokens this holds while a call is a hundredth
of the limit and estimates are right on average. Larger calls exceed a strictly counted minute
by one call at most, and never exceed a bucket that refills (as OpenAI's does).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from embed_star.errors import ProviderThrottled, RedisUnavailable

PACED_PERCENT = 97
"""Percentage of the limit that is given out."""
BURST_S = 0.2
"""How late a call may take its slot without losing it: threads wake up a little late."""
MAX_WAIT_S = 10.0
"""How far ahead slots are booked. `reserved` calls may book twice as far: background work could
otherwise keep them out of a line that is too slow for a reserve."""
PAUSE_MAX_S = 3600.0
"""Longest pause. A longer one is a mistake of the provider, or worth one try an hour."""
RESERVE_COST_SHARE = 0.01
"""Largest call, as a share of a limit, that fits into the margin of the reserve."""
MINUTE_US = 60_000_000
HORIZON_S = 120.0
"""A line that ends later than this after `MAX_WAIT_S` comes from a clock that was set."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one model of one provider allows the fleet; 0: no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    reserve_share: float = 0.05
    """Share of each limit, 0 to 1, at which `reserved` calls need not queue."""

    @property
    def requests_s(self) -> float:
        """Requests a second at full pace; infinity without a limit."""
        limit = self.requests_per_minute
        return limit * PACED_PERCENT / 6000 if limit else math.inf


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs, in amounts and in µs of each line; 0 µs where there is no limit."""

    requests: int
    tokens: int
    requests_us: int
    tokens_us: int
    reserve_requests_us: int = 0
    reserve_tokens_us: int = 0

    @classmethod
    def of(cls, limits: Limits, requests: int, tokens: int, *, reserved: bool = False) -> Cost:
        """The cost, in whole µs rounded up, so that all implementations compute the same."""
        amounts = (max(0, requests), max(0, tokens))
        per_minute = (limits.requests_per_minute, limits.tokens_per_minute)
        line = [_line_us(n, limit) for n, limit in zip(amounts, per_minute, strict=True)]
        share = limits.reserve_share if reserved else 0.0
        fits = all(us <= MINUTE_US * RESERVE_COST_SHARE * 100 / PACED_PERCENT + 1 for us in line)
        reserve = [math.ceil(us / share) for us in line] if share > 0.0 and fits else []
        return cls(*amounts, *line, *reserve)


def _line_us(amount: int, per_minute: int) -> int:
    return -(-amount * MINUTE_US * 100 // (PACED_PERCENT * per_minute)) if per_minute else 0


@dataclass(frozen=True, slots=True)
class Grant:
    """A booked slot. Hand it back with `settle` or `refund`, once."""

    delay_s: float
    """How long to sleep before the call; 0: call now."""
    at_s: float
    """The slot, by the rate limiter's clock."""
    cost: Cost
    from_reserve: bool = False
    end_us: int = 0
    """End of the line of requests after this booking."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was booked: the next slot is too far away. Try again after `wait_s`.

    By then, half of the present bookings are still ahead, so a late caller loses nothing.
    """

    wait_s: float


@dataclass(frozen=True, slots=True)
class State:
    """The state of a rate limiter at one moment."""

    paused_s: float = 0.0
    queue_s: float = 0.0
    """How long a call would have to wait now, including the pause."""
    used_share: float = 0.0
    """Used share of the tighter limit, 0 to 1, in the last 60 s; 0 without limits. The minute
    before counts by its part that lies within these 60 s."""


class RateLimiter(Protocol):
    """The calls to one model of one provider. Safe to use from several threads.

    Amounts below 0 count as 0; seconds that are no number, or below 0, as 0. Every method
    raises RedisUnavailable where Redis has the lines.
    """

    def take(self, tokens: int, *, requests: int = 1, reserved: bool = False) -> Grant | Wait:
        """Book the next slot for a call of about `tokens`; none if it is too far away.

        `reserved` calls take a slot of the reserve if that comes sooner, and the line then
        moves back. They may book twice as far ahead. A second call books a second slot.
        """

    def settle(self, grant: Grant, actual_tokens: int) -> None:
        """Correct the booking of a call: the provider counted `actual_tokens`.

        Tokens that were booked and not used are free again; missing ones are added to the
        line. A second call corrects twice.
        """

    def refund(self, grant: Grant) -> None:
        """Return the booking of a call that was never made. A second call returns it twice.

        Its tokens are free again. Its request is free only if no slot was booked after it:
        a call in its place would come on top of the later ones.
        """

    def pause(self, seconds: float) -> None:
        """Give out no slot for `seconds`, at most `PAUSE_MAX_S`. A longer pause stays."""

    def state(self) -> State:
        """Its present state. Books nothing."""


def admit(
    limiter: RateLimiter,
    tokens: int,
    *,
    reserved: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> Grant:
    """Book a slot and sleep until it begins. Make the call at once after that.

    Sleeps once, and never longer than the limiter books ahead. Raises ProviderThrottled
    with `retry_after_s` when no slot is near, or when the provider asked for a pause in the
    meantime. The slot is returned then, and also when `sleep` raises. Raises RedisUnavailable.
    """
    answer = limiter.take(tokens, reserved=reserved)
    if isinstance(answer, Wait):
        raise ProviderThrottled("the provider's rate limit is used up for now", answer.wait_s)
    if answer.delay_s > 0.0:
        try:
            sleep(answer.delay_s)
            if paused_s := limiter.state().paused_s:
                raise ProviderThrottled("the provider asked for a pause", paused_s)
        except BaseException:
            with suppress(RedisUnavailable):
                limiter.refund(answer)
            raise
    return answer


def pause_s(seconds: float) -> float:
    """`seconds`, limited to 0 to `PAUSE_MAX_S`."""
    return min(seconds, PAUSE_MAX_S) if seconds > 0.0 else 0.0


def us_of(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1e6)
