"""The dead letters: messages that no worker understands, kept for people to read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, cast

import redis

from embed_star.coordination.client import redis_errors

MOST = 1000
"""How many are kept, the newest."""


class DeadLetters:
    """A list in Redis. Nothing depends on it: the rows stay pending in the database."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}dead_letters"

    def add(self, task: str, message: Mapping[str, Any], reason: str) -> None:
        """Keep `message` (JSON, ids only). Raises RedisUnavailable."""
        entry = {"task": task, "message": message, "reason": reason, "at": time.time()}
        with redis_errors("set a message aside"):
            pipe = self._client.pipeline()
            pipe.lpush(self._key, json.dumps(entry))
            pipe.ltrim(self._key, 0, MOST - 1)
            pipe.execute()

    def count(self) -> int:
        """How many are kept, at most `MOST`. Raises RedisUnavailable."""
        with redis_errors("read what was set aside"):
            return self._client.llen(self._key)

    def read(self) -> list[dict[str, Any]]:
        """All of them, the newest first. Raises RedisUnavailable."""
        with redis_errors("read what was set aside"):
            found = cast("list[bytes]", self._client.lrange(self._key, 0, -1))
        return [json.loads(raw) for raw in found]
