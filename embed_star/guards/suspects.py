"""Texts that the provider failed at while it answered others, and how often in a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import redis

from embed_star.guards.connection import redis_errors
from embed_star.guards.once import Once

REMEMBERED_S = 3600
"""From the last failure on. What takes longer to come again is suspected anew."""

_ADD = """
local failures = tonumber(redis.call('GET', KEYS[1]) or '0') + 1
redis.call('SET', KEYS[1], string.format('%.0f', failures), 'EX', ARGV[1])
return failures
"""


class Suspects:
    """The fleet's notes, by text hash. Every method raises RedisUnavailable.

    A text is asked alone before it is noted. One attempt at a batch may end before there
    are enough failures to blame it, after time-outs for one: the next attempt goes on.
    Forgotten, it only takes longer.
    """

    def __init__(self, client: redis.Redis, prefix: str, server: str = "") -> None:
        """`server` says which model of whom: a text that breaks one need not break another."""
        self._client = client
        self._prefix = f"{prefix}suspect:{server}:"
        self._add = Once(client, prefix, _ADD)

    def counts(self, hashes: Iterable[str]) -> dict[str, int]:
        """Failures of those among `hashes` that are noted."""
        wanted = list(hashes)
        with redis_errors("read suspects"):
            found = cast(
                "list[bytes | None]", self._client.mget([self._prefix + one for one in wanted])
            )
        return {one: int(raw) for one, raw in zip(wanted, found, strict=True) if raw is not None}

    def add(self, text_hash: str) -> int:
        """Note one failure more; how many there are now."""
        with redis_errors("note a suspect"):
            return int(self._add([self._prefix + text_hash], [REMEMBERED_S]))

    def clear(self, text_hash: str) -> None:
        """Forget it: it was embedded after all, or is blamed now."""
        with redis_errors("clear a suspect"):
            self._client.delete(self._prefix + text_hash)
