"""A provider's limits, requests and tokens a minute, as one smooth line of slots.

The contract. One process has `memory.MemoryRateLimiter`, a fleet `shared.RedisRateLimiter`: the
same arithmetic in Lua, line by line.

Slots are booked, not asked for again and again: `take` books the next free one and says
how long it is until then, so a worker sleeps once. A slot is free when both lines are
(GCRA: each call moves a line's end by what it costs), at `PACED_SHARE` of the limit and
with almost no burst: a bucket that holds a minute's calls would let through twice the
limit in a minute that a strict provider counts. What is left of 60 s, for requests:

    60 / 0.97 - 60          1.86 s   what a full line leaves
    - BURST_S               0.20 s
    - reserve, 5 % of 10 s  0.50 s   slots out of turn, before the line makes up for them

so the provider sees no more than the limit in any 60 s while the calls' ways to it differ
by no more than 1.1 s less one slot. For tokens this holds while a call is a hundredth of
the limit and estimates are right on average; larger calls exceed a strictly counted minute
by one of them at most, and a bucket that fills up again (OpenAI's) not at all.
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
"""Of the limit, what is given out."""
BURST_S = 0.2
"""How far behind time the line may be made up for: threads that come back a little late."""
MAX_WAIT_S = 10.0
"""Furthest slot that is booked; twice as far for `reserved` calls, which background work
could otherwise keep out of a line that is too slow for a reserve."""
PAUSE_MAX_S = 3600.0
"""A longer pause is asked for by mistake, or is worth a new try each hour all the same."""
RESERVE_COST_SHARE = 0.01
"""A call that is more than this share of a limit does not fit into the reserve's margin."""
MINUTE_US = 60_000_000
HORIZON_S = 120.0
"""A line that ends later than this after `MAX_WAIT_S` is the work of a clock that was set."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one model of one provider allows the fleet; 0: as much as you like."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    reserve_share: float = 0.05
    """Share of each limit, 0 to 1, at which `reserved` calls need not queue."""

    @property
    def unlimited(self) -> bool:
        return not (self.requests_per_minute or self.tokens_per_minute)

    @property
    def requests_s(self) -> float:
        """Requests a second at full pace; infinity without a limit."""
        limit = self.requests_per_minute
        return limit * PACED_PERCENT / 6000 if limit else math.inf


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call takes, in amounts and as µs of each line; 0 µs where there is no limit."""

    requests: int
    tokens: int
    requests_us: int
    tokens_us: int
    reserve_requests_us: int = 0
    reserve_tokens_us: int = 0

    @classmethod
    def of(cls, limits: Limits, requests: int, tokens: int, *, reserved: bool = False) -> Cost:
        """Rounded up to whole µs, so that every implementation does the same sums."""
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
    """Sleep so long before the call; 0: call now."""
    at_s: float
    """The slot, by the rate limiter's clock."""
    cost: Cost
    from_reserve: bool = False
    end_us: int = 0
    """Where the line of requests ended with it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was booked: the next slot is too far away. Put the work off for `wait_s`.

    After it, half of what is booked now is still ahead: who comes back late loses nothing.
    """

    wait_s: float


@dataclass(frozen=True, slots=True)
class State:
    """One look at a rate limiter."""

    paused_s: float = 0.0
    queue_s: float = 0.0
    """How long a call that asked now would have to wait, the pause included."""
    used_share: float = 0.0
    """Of the tighter limit, 0 to 1, over the last minute: roughly, by the minute's end and
    the part of the minute before that counts still. 0 without limits."""


class RateLimiter(Protocol):
    """The calls to one model of one provider. Safe to use from several threads.

    Amounts below 0 count as 0; seconds that are no number, or below 0, as 0. Every method
    raises RedisUnavailable where Redis has the lines.
    """

    def take(self, tokens: int, *, requests: int = 1, reserved: bool = False) -> Grant | Wait:
        """Book the next slot for a call of about `tokens`; nothing if it is too far away.

        `reserved` calls take a slot of the reserve where that comes sooner; the others
        make way behind it. They are booked twice as far ahead. Asked twice, it books two.
        """

    def settle(self, grant: Grant, actual_tokens: int) -> None:
        """The call was made, and the provider counted so many tokens.

        What was estimated too much is given out again, what was too little is made up
        for. Twice counts twice.
        """

    def refund(self, grant: Grant) -> None:
        """The call was never made. Twice counts twice.

        Its tokens are given out again. Its request only if no slot was booked after it:
        another in its place would have to come later, on top of those that are there.
        """

    def pause(self, seconds: float) -> None:
        """No slot for anybody before then; a longer pause stays. At most `PAUSE_MAX_S`."""

    def state(self) -> State:
        """How it stands; books nothing."""


def admit(
    limiter: RateLimiter,
    tokens: int,
    *,
    reserved: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> Grant:
    """Book a slot and sleep until it is there: the grant for a call to be made now.

    Sleeps once, and never longer than the limiter books ahead. Raises ProviderThrottled
    with `retry_after_s` when no slot is near, or the provider asked for a pause meanwhile;
    nothing is taken then, nor when `sleep` raises. Raises RedisUnavailable.
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
    """A pause as it is kept: 0 to `PAUSE_MAX_S`."""
    return min(seconds, PAUSE_MAX_S) if seconds > 0.0 else 0.0


def us_of(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1e6)
