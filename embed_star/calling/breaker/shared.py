"""The circuit breaker that a fleet shares: a state machine in Lua."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from embed_star.calling.breaker.breaker import PROBE_POLL_S, Admission, Phase, State, Thresholds
from embed_star.coordination.client import redis_errors
from embed_star.coordination.idempotent_scripts import Once

_IDLE_S = 3600.0
"""A breaker that is not used for this long is forgotten: it is closed, with no counts."""

# KEYS: the breaker (hash, absent: closed). ARGV: what, ticket, now in ms ('': Redis' own),
# then the thresholds. The state machine is `MemoryBreaker`'s; times are whole milliseconds.
_BREAKER = """
local what, ticket, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local limits = {}
for i = 4, #ARGV do limits[i - 3] = tonumber(ARGV[i]) end
local failures, open_ms, successes, rate, least, half_ms, probe_ms, poll_ms, idle_ms =
  unpack(limits)

local names = {'open', 'opened', 'leased', 'number', 'phase', 'lease', 'failures', 'passed',
  'slot', 'good', 'bad', 'good_before', 'bad_before'}
local b, changed = {}, false
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  b[names[i]] = tonumber(value or 0)
end
local function set(name, value)
  if b[name] ~= value then b[name] = value changed = true end
end
local function next_number()
  -- By the clock, so that no number comes again after Redis was wiped.
  set('number', math.max(b.number + 1, now))
  return b.number
end
local function wait()
  if b.open == 0 then return 0 end
  set('opened', math.min(b.opened, now))
  set('leased', math.min(b.leased, now))
  local left = b.opened + open_ms - now
  if left <= 0 and b.lease ~= 0 then left = math.min(b.leased + probe_ms - now, poll_ms) end
  return math.max(0, left)
end
local function count(good, bad)
  local slot = math.floor(now / half_ms)
  if slot ~= b.slot then
    local follows = slot == b.slot + 1
    set('good_before', follows and b.good or 0)
    set('bad_before', follows and b.bad or 0)
    set('good', 0)
    set('bad', 0)
    b.slot = slot  -- by itself not worth a write
  end
  set('good', b.good + good)
  set('bad', b.bad + bad)
end
local function too_much()
  local bad = b.bad + b.bad_before
  local requests = bad + b.good + b.good_before
  return b.failures >= failures or (requests >= least and bad >= rate * requests)
end

local reply = 0
local heard = ticket == b.phase
if b.open == 1 then heard = b.lease ~= 0 and ticket == b.lease end
if what == 'admit' then
  local left = wait()
  if left > 0 then
    reply = {0, 0, left, 0}
  elseif b.open == 0 then
    reply = {1, 0, 0, b.phase}
  else
    set('lease', next_number())
    set('leased', now)
    reply = {1, 1, 0, b.lease}
  end
elseif what == 'state' then
  local left = wait()
  count(0, 0)
  local phase = b.open == 0 and 0 or now < b.opened + open_ms and 1 or 2
  local bad = b.bad + b.bad_before
  reply = {phase, left, b.failures, bad + b.good + b.good_before, bad, b.passed}
elseif what == 'abandoned' then
  if heard then set('lease', 0) end
elseif what == 'succeeded' and heard then
  if b.open == 0 then
    set('failures', 0)
    count(1, 0)
  else
    set('lease', 0)
    set('passed', b.passed + 1)
    if b.passed >= successes then
      b = {open = 0, opened = 0, leased = 0, number = b.number, phase = 0, lease = 0,
        failures = 0, passed = 0, slot = b.slot, good = 0, bad = 0, good_before = 0,
        bad_before = 0}
      set('phase', next_number())
      reply = 1
    end
  end
elseif heard then  -- failed, or for certain
  if b.open == 0 then
    set('failures', b.failures + 1)
    count(0, 1)
  end
  if b.open == 1 or what == 'certain' or too_much() then
    set('open', 1)
    set('opened', now)
    set('lease', 0)
    set('passed', 0)
    reply = 1
  end
end
if changed then
  local flat = {}
  for name, value in pairs(b) do
    flat[#flat + 1] = name
    flat[#flat + 1] = string.format('%.0f', value)
  end
  redis.call('HSET', KEYS[1], unpack(flat))
  redis.call('PEXPIRE', KEYS[1], idle_ms)
end
return reply, not changed
"""

_PHASES = (Phase.CLOSED, Phase.OPEN, Phase.HALF_OPEN)


class RedisBreaker:
    """One breaker for the fleet. Every method is one Lua call, by the clock of Redis.

    When a method raises RedisUnavailable, its effect may have happened: at worst a probe's
    place stays empty until its lease ends. A command that the client repeats because its
    answer was lost counts once.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        name: str,
        thresholds: Thresholds,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`name` says which model of which provider. `clock` replaces that of Redis, for tests."""
        self._key = f"{prefix}breaker:{name}"
        self._clock = clock
        self._script = Once(client, prefix, _BREAKER)
        self._look = client.register_script(_BREAKER)
        idle_s = _IDLE_S + thresholds.open_s + thresholds.probe_s + thresholds.window_s
        self._limits: list[Any] = [
            thresholds.failures,
            _ms(thresholds.open_s),
            thresholds.successes_to_close,
            thresholds.failure_rate,
            thresholds.min_requests,
            _ms(thresholds.window_s / 2),
            _ms(thresholds.probe_s),
            _ms(PROBE_POLL_S),
            _ms(idle_s),
        ]

    def admit(self) -> Admission:
        allowed, probe, wait_ms, ticket = self._call("admit")
        return Admission(allowed == 1, probe == 1, wait_ms / 1000, ticket)

    def succeeded(self, admission: Admission) -> bool:
        return bool(admission.allowed and self._call("succeeded", admission))

    def failed(self, admission: Admission, *, for_certain: bool = False) -> bool:
        what = "certain" if for_certain else "failed"
        return bool(admission.allowed and self._call(what, admission))

    def abandon(self, admission: Admission) -> None:
        if admission.probe:  # of others, nothing is kept
            self._call("abandoned", admission)

    def state(self) -> State:
        phase, wait_ms, *counts = self._call("state")
        return State(_PHASES[phase], wait_ms / 1000, *counts)

    def _call(self, what: str, admission: Admission | None = None) -> Any:
        now = "" if self._clock is None else round(self._clock() * 1000)
        ticket = 0 if admission is None else admission.ticket
        with redis_errors("ask the circuit breaker"):
            script = self._look if what == "state" else self._script
            return script(keys=[self._key], args=[what, ticket, now, *self._limits])


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
