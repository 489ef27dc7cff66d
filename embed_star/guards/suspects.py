"""Texts that the provider failed at, or put off, while it answered others: how often in a row."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

import redis

from embed_star.guards.connection import redis_errors

REMEMBERED_S = 3600
"""From the last failure on. What takes longer to come again is suspected anew."""


class Suspects:
    """The fleet's notes, by text hash. Every method raises RedisUnavailable.

    A text is asked alone before it is noted. One attempt at a batch may end before there
    are enough failures to blame it, after time-outs for one: the next attempt goes on.
    Forgotten, it only takes longer.
    """

    def __init__(self, client: redis.Redis, prefix: str, kind: str = "suspect") -> None:
        self._client = client
        self._prefix = f"{prefix}{kind}:"
        self._alone = f"{prefix}{kind}s"

    def counts(self, hashes: Iterable[str]) -> dict[str, int]:
        """Failures of those among `hashes` that are noted."""
        wanted = list(hashes)
        with redis_errors("read suspects"):
            found = cast(
                "list[bytes | None]", self._client.mget([self._prefix + one for one in wanted])
            )
        return {one: int(raw) for one, raw in zip(wanted, found, strict=True) if raw is not None}

    def add(self, text_hash: str) -> int:
        """Note one failure more, of the text alone; how many there are now."""
        now_s = time.time()
        with redis_errors("note a suspect"):
            pipe = self._client.pipeline()
            pipe.incr(self._prefix + text_hash)
            pipe.expire(self._prefix + text_hash, REMEMBERED_S)
            pipe.zadd(self._alone, {text_hash: now_s})
            pipe.zremrangebyscore(self._alone, "-inf", now_s - REMEMBERED_S)
            pipe.expire(self._alone, REMEMBERED_S)
            return int(pipe.execute()[0])

    def add_together(self, hashes: Iterable[str]) -> None:
        """Note one failure more of texts that were asked together."""
        with redis_errors("note suspects"):
            pipe = self._client.pipeline()
            for one in hashes:
                pipe.incr(self._prefix + one)
                pipe.expire(self._prefix + one, REMEMBERED_S)
            pipe.execute()

    def clear(self, *hashes: str) -> None:
        """Forget them: they were embedded after all, or are blamed now."""
        with redis_errors("clear a suspect"):
            pipe = self._client.pipeline()
            pipe.delete(*(self._prefix + one for one in hashes))
            pipe.zrem(self._alone, *hashes)
            pipe.execute()

    def alone(self) -> int:
        """How many texts failed alone lately, and neither were embedded nor blamed since."""
        with redis_errors("count suspects"):
            return int(self._client.zcount(self._alone, time.time() - REMEMBERED_S, "+inf"))
