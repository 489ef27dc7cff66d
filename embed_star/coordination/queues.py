"""Reads the state of Celery's queues, as Kombu keeps them in Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from embed_star.coordination.client import redis_errors

STORE_QUEUE = "store"
EMBED_QUEUE = "embed"
SWEEP_QUEUE = "sweep"
NAMES = (STORE_QUEUE, EMBED_QUEUE, SWEEP_QUEUE)

PRIORITY_STEPS = (0, 9)
"""Priorities of messages. 0, for fresh rows, is served before 9, for the backfill."""

ENQUEUED_AT = "enqueued_at"
"""Header of every message: when it was sent, in seconds since 1970."""

_SEPARATOR = "\x06\x16"
"""Kombu puts it between a queue's name and a priority other than 0."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """The state of a queue at one moment."""

    messages: int
    oldest_at_s: float | None
    """When the oldest message was sent, in seconds since 1970; None if empty or unknown."""


class Queues:
    """Reads the queues, and takes no message out. Raises RedisUnavailable."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def look(self) -> tuple[dict[str, QueueState], int]:
        """The state of each queue by name, and how many messages workers hold unacknowledged."""
        lists = [self._lists(name) for name in NAMES]
        with redis_errors("look at the queues"):
            pipe = self._client.pipeline(transaction=False)
            for key in (key for keys in lists for key in keys):
                pipe.llen(key)
                pipe.lindex(key, -1)  # sent from the left, taken from the right
            pipe.hlen(self._prefix + "unacked")
            *found, unacked = pipe.execute()
        looks = iter(zip(found[::2], found[1::2], strict=True))
        states = {}
        for name, keys in zip(NAMES, lists, strict=True):
            of_queue = [next(looks) for _ in keys]
            times = [at for _, raw in of_queue if (at := _enqueued_at(raw)) is not None]
            states[name] = QueueState(
                sum(length for length, _ in of_queue), min(times, default=None)
            )
        return states, int(unacked)

    def _lists(self, name: str) -> Sequence[str]:
        return [self._prefix + queue_key(name, step) for step in PRIORITY_STEPS]


def queue_key(name: str, priority: int) -> str:
    """The list of the queue `name` with messages of `priority`, without the prefix."""
    return name + (f"{_SEPARATOR}{priority}" if priority else "")


def _enqueued_at(raw: Any) -> float | None:
    """When the message `raw` was sent; None for no message, and for one that is not ours."""
    try:
        return float(json.loads(raw)["headers"][ENQUEUED_AT])
    except (TypeError, ValueError, KeyError):
        return None
