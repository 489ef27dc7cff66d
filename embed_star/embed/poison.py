"""Counts how often in a row the provider failed at a text while it answered others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self, cast

import redis

from embed_star.coordination.client import redis_errors
from embed_star.coordination.idempotent_scripts import Once

REMEMBERED_S = 3600
"""How long a count is kept after the last failure."""


class PoisonCounter(Protocol):
    """The fleet's counts, by text hash. Every method raises RedisUnavailable.

    An attempt at a batch may end before a text has failed often enough to be blamed, for
    example after time-outs. The next attempt goes on from the count. If counts are lost, it
    only takes longer.
    """

    def counts(self, hashes: Iterable[str]) -> dict[str, int]:
        """The counts of those among `hashes` that have failed."""

    def counts_beside(self, other: Self, hashes: Iterable[str]) -> list[dict[str, int]]:
        """The counts of this one and of `other`, of the same kind, in one round trip."""

    def add(self, text_hash: str) -> int:
        """Count a failure of a text that was asked alone. Returns the new count."""

    def add_together(self, hashes: Iterable[str]) -> None:
        """Count a failure of texts that were asked together."""

    def clear(self, *hashes: str) -> None:
        """Forget these texts: they were embedded, or have been set aside."""

    def alone(self) -> int:
        """How many texts failed alone lately, and were not cleared since."""


_ADD = """
local failures = 0
for i, key in ipairs(KEYS) do
  failures = tonumber(redis.call('GET', key) or '0') + 1
  redis.call('SET', key, string.format('%.0f', failures), 'EX', ARGV[1])
end
return failures
"""
_ADD_ALONE = """
local failures = tonumber(redis.call('GET', KEYS[1]) or '0') + 1
redis.call('SET', KEYS[1], string.format('%.0f', failures), 'EX', ARGV[1])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])) do
  redis.call('ZREM', KEYS[2], old)
end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return failures
"""


class RedisPoisonCounter:
    """In Redis: a count for each text, and a sorted set of the texts that failed alone."""

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        server: str = "",
        kind: str = "suspect",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`server` names the server and model: a text that crashes one may not crash another."""
        self._client = client
        self._clock = clock
        self._prefix = f"{prefix}{kind}:{server}:"
        self._alone = f"{prefix}{kind}s:{server}"
        self._add_together = Once(client, prefix, _ADD)
        self._add_alone = Once(client, prefix, _ADD_ALONE)

    def counts(self, hashes: Iterable[str]) -> dict[str, int]:
        return self._read([self._prefix], list(hashes))[0]

    def counts_beside(self, other: Self, hashes: Iterable[str]) -> list[dict[str, int]]:
        return self._read([self._prefix, other._prefix], list(hashes))

    def add(self, text_hash: str) -> int:
        now_s = self._clock()
        times = [f"{now_s:.3f}", f"{now_s - REMEMBERED_S:.3f}"]
        with redis_errors("note a suspect"):
            keys = [self._prefix + text_hash, self._alone]
            return int(self._add_alone(keys, [REMEMBERED_S, *times, text_hash]))

    def add_together(self, hashes: Iterable[str]) -> None:
        with redis_errors("note suspects"):
            self._add_together([self._prefix + one for one in hashes], [REMEMBERED_S])

    def clear(self, *hashes: str) -> None:
        with redis_errors("clear a suspect"):
            pipe = self._client.pipeline(transaction=False)
            pipe.delete(*(self._prefix + one for one in hashes))
            pipe.zrem(self._alone, *hashes)
            pipe.execute()

    def _read(self, prefixes: Sequence[str], hashes: Sequence[str]) -> list[dict[str, int]]:
        names = [prefix + one for prefix in prefixes for one in hashes]
        with redis_errors("read suspects"):
            found = iter(cast("list[bytes | None]", self._client.mget(names)))
        return [
            {one: int(raw) for one, raw in zip(hashes, found, strict=False) if raw is not None}
            for _ in prefixes
        ]

    def alone(self) -> int:
        with redis_errors("count suspects"):
            since = f"{self._clock() - REMEMBERED_S:.3f}"
            return int(self._client.zcount(self._alone, since, "+inf"))


class MemoryPoisonCounter:
    """A `PoisonCounter` of one process, over an injected clock. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._noted: dict[str, tuple[int, float]] = {}  # text hash → failures, until when
        self._alone: dict[str, float] = {}  # text hash → when it last failed alone

    def counts(self, hashes: Iterable[str]) -> dict[str, int]:
        with self._one_at_a_time:
            found = {one: self._failures(one) for one in hashes}
        return {one: failures for one, failures in found.items() if failures}

    def counts_beside(self, other: Self, hashes: Iterable[str]) -> list[dict[str, int]]:
        wanted = list(hashes)
        return [self.counts(wanted), other.counts(wanted)]

    def add(self, text_hash: str) -> int:
        with self._one_at_a_time:
            self._alone[text_hash] = self._clock()
            return self._add(text_hash)

    def add_together(self, hashes: Iterable[str]) -> None:
        with self._one_at_a_time:
            for one in hashes:
                self._add(one)

    def clear(self, *hashes: str) -> None:
        with self._one_at_a_time:
            for one in hashes:
                self._noted.pop(one, None)
                self._alone.pop(one, None)

    def alone(self) -> int:
        with self._one_at_a_time:
            since = self._clock() - REMEMBERED_S
            return sum(failed_at >= since for failed_at in self._alone.values())

    def _add(self, text_hash: str) -> int:
        failures = self._failures(text_hash) + 1
        self._noted[text_hash] = (failures, self._clock() + REMEMBERED_S)
        return failures

    def _failures(self, text_hash: str) -> int:
        failures, until = self._noted.get(text_hash, (0, 0.0))
        return failures if self._clock() < until else 0
