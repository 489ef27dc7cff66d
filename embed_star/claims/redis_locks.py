"""Locks by repo key: the contract of both layers, and the layer in Redis.

The layer in SurrealDB is `store.tables.locks.LockTable`; it is the one that counts. This one
answers faster, and keeps most races away from the database. `Claims` owns both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import redis

from embed_star.coordination.client import redis_errors
from embed_star.coordination.idempotent_scripts import Once
from embed_star.models import Key, key_text


class LockLayer(Protocol):
    """Locks that carry a token and expire by themselves.

    Every method takes a page of keys in one round trip, and returns results in their order.
    """

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        """Lock the free `keys` for `token`. For each key: whether this call locked it."""

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        """Let the locks of `token` last `ttl_s` from now. For each key: whether it holds it."""

    def release(self, keys: Sequence[Key], token: str) -> None:
        """Release the locks of `token`. Other keys are left alone."""


_ACQUIRE = """
local won = {}
for i, key in ipairs(KEYS) do
  won[i] = redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return won
"""
_EXTEND = """
local held = {}
for i, key in ipairs(KEYS) do
  held[i] = 0
  if redis.call('GET', key) == ARGV[1] then
    held[i] = redis.call('PEXPIRE', key, ARGV[2])
  end
end
return held
"""
_RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


class RedisLocks:
    """`SET NX PX` for a whole page, in one Lua call. Locks expire by the clock of Redis.

    Raises RedisUnavailable. A command that the client repeats because its answer was lost
    returns the first answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, kind: str = "lock") -> None:
        """Locks of another `kind` are separate: a repo may have any key, also a lease's."""
        self._prefix = f"{prefix}{kind}:"
        self._acquire = Once(client, prefix, _ACQUIRE)
        self._extend = client.register_script(_EXTEND)
        self._release = client.register_script(_RELEASE)

    def acquire(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with redis_errors("take locks"):
            return self._flags(self._acquire, keys, token, _ms(ttl_s))

    def extend(self, keys: Sequence[Key], token: str, ttl_s: float) -> list[bool]:
        with redis_errors("extend locks"):
            return self._flags(self._extend, keys, token, _ms(ttl_s))

    def release(self, keys: Sequence[Key], token: str) -> None:
        with redis_errors("release locks"):
            self._release(keys=self._names(keys), args=[token])

    def _flags(self, script: Any, keys: Sequence[Key], *arguments: str | int) -> list[bool]:
        flags = cast("list[int]", script(keys=self._names(keys), args=list(arguments)))
        return [flag == 1 for flag in flags]

    def _names(self, keys: Sequence[Key]) -> list[str]:
        return [f"{self._prefix}{key_text(key)}" for key in keys]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
