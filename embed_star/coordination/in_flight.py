"""Counts the runs in flight, in Redis: how many rows are claimed, queued and finished.

A run is one chord. The counts only pace the producer and feed `status`. If Redis loses them,
the producer claims a little too much for a while, and nothing else happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast
from uuid import uuid4

import redis

from embed_star.coordination.client import redis_errors
from embed_star.coordination.idempotent_scripts import Once


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Rows in flight in the whole fleet, and all rows finished since Redis was empty."""

    in_flight: int = 0
    queued: int = 0
    """The rows in flight that no worker has begun."""
    finished_total: int = 0
    oldest_age_s: float | None = None
    """Age of the oldest run in flight; None if there is none."""


class Fate(StrEnum):
    """What the ledger knows of a run."""

    IN_FLIGHT = "in flight"
    OVER = "over"
    """It ended within the last minute."""
    UNKNOWN = "unknown"


class InFlightLedger(Protocol):
    """Bookkeeping of runs. Every method raises RedisUnavailable.

    In Redis for a fleet, in memory (`coordination.memory`) for tests.
    """

    def begin(self, run_id: str, rows: int, give_up_s: float) -> None:
        """Count a new run of `rows` rows. It counts for `give_up_s` at most."""

    def start(
        self,
        run_id: str,
        rows: int,
        message: str,
        keep_s: float,
        *,
        by: str = "",
        again: bool = False,
    ) -> bool:
        """Note that the worker `by` has begun `message`, with `rows` rows of the run.

        Returns False, and counts nothing, if the message was begun before. That is known until
        the run ends, and for `keep_s` at most. `again` is for a message that Redis has handed
        out again, and takes it over from whoever began it.
        """

    def is_begun_by(self, run_id: str, message: str, by: str) -> bool:
        """Whether `by` was the last one to begin `message`. False if that is not known."""

    def fates(self, run_ids: Sequence[str]) -> list[Fate]:
        """What is known of each run."""

    def put_back(self, run_id: str, rows: int) -> None:
        """Count `rows` begun rows of the run as queued: their task waits, and begins again."""

    def finish(self, run_id: str, totals: Mapping[str, int]) -> None:
        """End the run, add `totals` to the sums, and wake the listeners."""

    def give_back(self, run_id: str, rows: int) -> None:
        """Take `rows` begun rows out of the run, and tell the listeners so."""

    def counts(self) -> RunCounts:
        """The present counts, without runs whose time is over."""

    def totals(self) -> dict[str, int]:
        """The sums of all `totals` that `finish` was given, by name."""

    def wake(self) -> None:
        """Wake the listeners, as a finished run does."""

    def listen(self, ring: Callable[[bool], None], stopped: Callable[[], bool]) -> None:
        """Call `ring` whenever a run ends or rows are given back. Blocks until `stopped()`.

        Its argument is whether rows were given back: they may lie before the place where the
        producer reads.
        """


# KEYS: ends (zset run → ms when it is given up), rows, queued (hashes run → rows), totals,
# begins (zset run → ms); for one run: started (hash message that was begun → by whom), over.
# Numbers come as text and go on as text: of its own, Lua would make "-0" and "1e+15".
_BEGIN = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[5], string.format('%.0f', now), ARGV[1])
"""
_START = """
if redis.call('HSETNX', KEYS[6], ARGV[3], ARGV[4]) == 0 then
  if ARGV[6] == '1' then redis.call('HSET', KEYS[6], ARGV[3], ARGV[4]) end
  return redis.call('HGET', KEYS[6], ARGV[3]) == ARGV[4] and 1 or 0
end
redis.call('PEXPIRE', KEYS[6], ARGV[5])
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[3], ARGV[1], ARGV[2])
end
return 1
"""
_PUT_BACK = """
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[3], ARGV[1], ARGV[2])
end
"""
_FINISH = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[6])
redis.call('SET', KEYS[7], '1', 'PX', 60000)
for i = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[4], ARGV[i], ARGV[i + 1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
"""
_GIVE_BACK = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
_COUNTS = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for _, run in ipairs(dead) do
  redis.call('ZREM', KEYS[1], run)
  redis.call('HDEL', KEYS[2], run)
  redis.call('HDEL', KEYS[3], run)
  redis.call('ZREM', KEYS[5], run)
end
-- A Redis that came back with a part of what it had may count runs that nobody ends.
local known, sums = {}, {0, 0}
for _, run in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do known[run] = true end
for i = 1, 2 do
  local counts = redis.call('HGETALL', KEYS[i + 1])
  for j = 1, #counts, 2 do
    if known[counts[j]] then sums[i] = sums[i] + math.max(0, counts[j + 1])
    else redis.call('HDEL', KEYS[i + 1], counts[j]) end
  end
end
local oldest = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
return {sums[1], sums[2], tonumber(redis.call('HGET', KEYS[4], 'finished') or '0'),
  oldest and now - oldest or -1}
"""


_GIVEN_BACK = "given back"
"""The message on the channel that rows were given back; any other message only wakes."""


class RedisInFlightLedger:
    """Every method is one Lua call.

    A call that the client sends again, its answer lost, counts once.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        names = ("ends", "rows", "queued", "totals", "begins")
        self._prefix = f"{prefix}runs:"
        self._keys = [f"{self._prefix}{name}" for name in names]
        self.channel = f"{self._prefix}finished"
        self._begin = client.register_script(_BEGIN)
        self._start = client.register_script(_START)
        self._put_back = Once(client, prefix, _PUT_BACK)
        self._finish = Once(client, prefix, _FINISH)
        self._give_back = Once(client, prefix, _GIVE_BACK)
        self._counts = client.register_script(_COUNTS)

    def begin(self, run_id: str, rows: int, give_up_s: float) -> None:
        self._call(self._begin, run_id, rows, round(give_up_s * 1000))

    def start(
        self,
        run_id: str,
        rows: int,
        message: str,
        keep_s: float,
        *,
        by: str = "",
        again: bool = False,
    ) -> bool:
        by = by or uuid4().hex  # whose call may be sent again when its answer is lost
        asked = (run_id, -rows, message, by, round(keep_s * 1000), int(again))
        return bool(self._call(self._start, *asked, own=self._own(run_id)))

    def is_begun_by(self, run_id: str, message: str, by: str) -> bool:
        with redis_errors("look who works on a message"):
            return self._client.hget(self._own(run_id)[0], message) == by.encode()

    def fates(self, run_ids: Sequence[str]) -> list[Fate]:
        if not run_ids:
            return []
        with redis_errors("look for runs"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hmget(self._keys[1], list(run_ids))
            for run_id in run_ids:
                pipe.exists(self._own(run_id)[1])
            rows, *over = pipe.execute()
        known = zip(rows, over, strict=True)
        return [
            Fate.IN_FLIGHT if row is not None else Fate.OVER if ended else Fate.UNKNOWN
            for row, ended in known
        ]

    def put_back(self, run_id: str, rows: int) -> None:
        self._call(self._put_back, run_id, rows)

    def finish(self, run_id: str, totals: Mapping[str, int]) -> None:
        flat = [part for item in totals.items() for part in item]
        self._call(self._finish, run_id, self.channel, run_id, *flat, own=self._own(run_id))

    def give_back(self, run_id: str, rows: int) -> None:
        self._call(self._give_back, run_id, -rows, self.channel, _GIVEN_BACK)

    def counts(self) -> RunCounts:
        in_flight, queued, finished, age_ms = map(int, self._call(self._counts))
        oldest_age_s = max(0, age_ms) / 1000 if in_flight else None
        return RunCounts(in_flight, queued, finished, oldest_age_s)

    def totals(self) -> dict[str, int]:
        with redis_errors("read totals"):
            found = cast("dict[bytes, bytes]", self._client.hgetall(self._keys[3]))
        return {name.decode(): int(value) for name, value in found.items()}

    def wake(self) -> None:
        with redis_errors("publish"):
            self._client.publish(self.channel, "wake")

    def listen(self, ring: Callable[[bool], None], stopped: Callable[[], bool]) -> None:
        """A broken connection is made again. A missed message costs the listener one poll."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        with pubsub, redis_errors("subscribe"):
            pubsub.subscribe(self.channel)
            while not stopped():
                message = pubsub.get_message(timeout=0.5)
                if message is not None:
                    ring(message["data"] == _GIVEN_BACK.encode())

    def _call(self, script: Any, *arguments: Any, own: Sequence[str] = ()) -> Any:
        """`own` are keys of one run."""
        with redis_errors("keep count of runs"):
            return script(keys=[*self._keys, *own], args=list(arguments))

    def _own(self, run_id: str) -> list[str]:
        return [f"{self._prefix}{kind}:{run_id}" for kind in ("started", "over")]
