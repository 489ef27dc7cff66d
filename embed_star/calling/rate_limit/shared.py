"""The rate limit of a whole fleet, in Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from embed_star.calling.rate_limit.memory import Ledger
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
from embed_star.coordination.client import redis_errors
from embed_star.coordination.idempotent_scripts import Once

# KEYS: the ledger (hash, absent: nothing booked). ARGV: what, now in µs ('': Redis' own),
# amounts. What it does is `memory.Ledger`'s; times are whole µs, which
# doubles hold exactly until the year 2255.
_BUDGET = f"""
local what, now = ARGV[1], tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
local a = {{}}
for i = 3, #ARGV do a[i - 2] = tonumber(ARGV[i]) end

local names = {{'requests', 'tokens', 'reserve_requests', 'reserve_tokens', 'pause', 'minute',
  'requests_now', 'tokens_now', 'requests_before', 'tokens_before'}}
local b = {{}}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  b[names[i]] = tonumber(value or 0)
end

local changed = false
local function set(name, value)
  if b[name] ~= value then b[name] = value changed = true end
end
for i = 1, 4 do set(names[i], math.min(b[names[i]], now + {us_of(MAX_WAIT_S + HORIZON_S)})) end
set('pause', math.min(b.pause, now + {us_of(PAUSE_MAX_S)}))
local minute = math.floor(now / {MINUTE_US})
if minute ~= b.minute then
  local follows = minute == b.minute + 1
  set('requests_before', follows and b.requests_now or 0)
  set('tokens_before', follows and b.tokens_now or 0)
  set('requests_now', 0)
  set('tokens_now', 0)
  b.minute = minute  -- by itself not worth a write
end

local function next_slot(first)
  local slot = math.max(now, b.pause)
  for i = first, first + 1 do
    if a[i + 2] > 0 then slot = math.max(slot, b[names[i]]) end
  end
  return slot
end
local function book(slot, first)
  for i = first, first + 1 do
    if a[i + 2] > 0 then
      set(names[i], math.max(b[names[i]], slot - {us_of(BURST_S)}) + a[i + 2])
    end
  end
end
local function correct_tokens(tokens, tokens_us)
  set('tokens', math.max(0, b.tokens + tokens_us))
  set('tokens_now', math.max(0, b.tokens_now + tokens))
end

local reply = 0
if what == 'take' then  -- requests, tokens, µs in the lines 1 to 4, longest wait
  local slot, reserve = next_slot(1), 0
  if a[5] + a[6] > 0 then
    local own = next_slot(3)
    if own < slot then slot, reserve = own, 1 end
  end
  if slot - now > a[7] then
    reply = {{0, slot, now}}
  else
    book(slot, 1)
    if reserve == 1 then book(slot, 3) end
    set('requests_now', b.requests_now + a[1])
    set('tokens_now', b.tokens_now + a[2])
    reply = {{1, slot, now, reserve, b.requests}}
  end
elseif what == 'settle' then  -- tokens, µs
  correct_tokens(a[1], a[2])
elseif what == 'refund' then  -- tokens, µs, requests, µs, end
  correct_tokens(a[1], a[2])
  if b.requests == a[5] then
    set('requests', b.requests - a[4])
    set('requests_now', math.max(0, b.requests_now - a[3]))
  end
elseif what == 'pause' then  -- µs
  set('pause', math.max(b.pause, now + a[1]))
else
  reply = {{now}}
  for i, name in ipairs(names) do reply[i + 1] = b[name] end
end
if not changed then return reply, true end
local flat, last = {{}}, now
for i, name in ipairs(names) do
  flat[2 * i - 1], flat[2 * i] = name, string.format('%.0f', b[name])
  if i <= 5 then last = math.max(last, b[name]) end
end
redis.call('HSET', KEYS[1], unpack(flat))
redis.call('PEXPIRE', KEYS[1], math.ceil((last - now + {2 * MINUTE_US}) / 1000))
return reply
"""


class RedisRateLimiter:
    """One rate limiter for the fleet. Every method is one Lua call, by the clock of Redis.

    When a method raises RedisUnavailable, its effect may have happened: at worst a slot stays
    unused. A command that the client repeats because its answer was lost books once. A Redis
    that lost its data begins a new line, while slots that were booked before, up to
    `MAX_WAIT_S` ahead, are still used.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        name: str,
        limits: Limits,
        clock: Callable[[], float] | None = None,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """`name` says which model of which provider. `clock` replaces that of Redis, for tests.

        `max_wait_s`, at most `MAX_WAIT_S`, is how far ahead slots are booked. Processes with
        different limits share one line, and each applies its own limits.
        """
        self._key = f"{prefix}budget:{name}"
        self._limits = limits
        self._clock = clock
        self._max_wait_us = us_of(max_wait_s)
        self._script = Once(client, prefix, _BUDGET)
        self._look = client.register_script(_BUDGET)

    def take(self, tokens: int, *, requests: int = 1, reserved: bool = False) -> Grant | Wait:
        cost = Cost.of(self._limits, requests, tokens, reserved=reserved)
        lines = (cost.requests_us, cost.tokens_us, cost.reserve_requests_us, cost.reserve_tokens_us)
        furthest = self._max_wait_us * (2 if reserved else 1)
        granted, slot, now, *rest = self._call("take", cost.requests, cost.tokens, *lines, furthest)
        if not granted:
            return Wait((slot - now - self._max_wait_us / 2) / 1e6)
        reserve, end_us = rest
        return Grant((slot - now) / 1e6, slot / 1e6, cost, reserve == 1, end_us)

    def settle(self, grant: Grant, actual_tokens: int) -> None:
        actual, cost = Cost.of(self._limits, 0, actual_tokens), grant.cost
        if self._limits.tokens_per_minute and actual.tokens != cost.tokens:
            self._call("settle", actual.tokens - cost.tokens, actual.tokens_us - cost.tokens_us)

    def refund(self, grant: Grant) -> None:
        cost = grant.cost
        self._call(
            "refund", -cost.tokens, -cost.tokens_us, cost.requests, cost.requests_us, grant.end_us
        )

    def pause(self, seconds: float) -> None:
        self._call("pause", us_of(pause_s(seconds)))

    def state(self) -> State:
        now, *fields = self._call("state")
        return Ledger(*fields).state(now, self._limits)

    def _call(self, what: str, *amounts: int) -> Any:
        now = "" if self._clock is None else us_of(self._clock())
        with redis_errors("ask for the provider's budget"):
            script = self._look if what == "state" else self._script
            return script(keys=[self._key], args=[what, now, *amounts])
