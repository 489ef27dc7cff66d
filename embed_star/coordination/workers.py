"""Which workers live, and the messages that each of them holds unacknowledged, in Redis.

Kombu keeps unacknowledged messages without a holder, and gives one of a dead worker to another
only after VISIBILITY_TIMEOUT_S. So each worker notes its name beside its messages, and beats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, cast
from uuid import uuid4

import redis

from embed_star.coordination.client import check_writes, redis_errors
from embed_star.coordination.queues import (
    EMBED_QUEUE,
    NAMES,
    PRIORITY_STEPS,
    STORE_QUEUE,
    queue_key,
)

HOLDERS = "unacked_by"
"""Hash of a message's tag → the worker that holds it, beside Kombu's own `unacked`."""

# KEYS: HOLDERS, unacked (hash tag → message), its index (zset), the queue. ARGV: tag, message.
_REQUEUE = """
local held = redis.call('HEXISTS', KEYS[2], ARGV[1])
-- First, since a full Redis refuses it: the message then stays where it is.
if held == 1 then redis.call('RPUSH', KEYS[4], ARGV[2]) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return held
"""


class Beat(NamedTuple):
    """What a worker said last."""

    number: int
    """Grows with each beat."""
    runs: frozenset[str]
    """The runs of which it holds a message."""


class Look(NamedTuple):
    """What is known of the workers of an installation at one moment."""

    beats: dict[str, Beat]
    """The last beat of each worker that has not left. One may be dead."""
    idle: bool
    """Whether no message waits for a worker in the queues of runs."""


class Workers:
    """Beats and held messages of the workers of an installation. Raises RedisUnavailable."""

    def __init__(self, client: redis.Redis, prefix: str, celery_prefix: str) -> None:
        self._client = client
        self._beats = f"{prefix}workers"
        self._prefix = celery_prefix
        self._requeue = client.register_script(_REQUEUE)

    def beat(self, worker: str, count: int, runs: Iterable[str]) -> None:
        """Say that `worker` lives, for the `count`th time, and holds messages of `runs`."""
        with redis_errors("say that this worker lives"):
            self._client.hset(self._beats, worker, json.dumps([count, sorted(runs)]))

    def leave(self, worker: str) -> None:
        """Forget `worker`, which holds no message any more."""
        with redis_errors("say that this worker ends"):
            self._client.hdel(self._beats, worker)

    def count(self) -> int:
        """How many workers have begun and not left. One may be dead for a few seconds."""
        with redis_errors("count the workers"):
            return self._client.hlen(self._beats)

    def look(self) -> Look:
        """Look once. Raises RedisUnavailable also when Redis takes no writes: nobody can beat."""
        check_writes(self._client)
        with redis_errors("look for workers"):
            pipe = self._client.pipeline(transaction=False)
            # The queues first: who takes a message later says so later.
            for queue in (EMBED_QUEUE, STORE_QUEUE):
                for step in PRIORITY_STEPS:
                    pipe.llen(self._prefix + queue_key(queue, step))
            pipe.hgetall(self._beats)
            *lengths, found = pipe.execute()
        said = {worker.decode(): json.loads(beat) for worker, beat in found.items()}
        beats = {worker: Beat(number, frozenset(runs)) for worker, (number, runs) in said.items()}
        return Look(beats, idle=not any(lengths))

    def requeue(self, worker: str) -> int:
        """Put the messages of `worker` back into their queues, and forget it; how many.

        They are the next ones there, and marked as redelivered. Each gets a new tag, so that a
        late acknowledgement by `worker` does not concern it. Twice at once requeues once.
        """
        with redis_errors("requeue the messages of a dead worker"):
            held = cast("dict[bytes, bytes]", self._client.hgetall(self._prefix + HOLDERS))
            tags = [tag.decode() for tag, holder in held.items() if holder.decode() == worker]
            requeued = sum(self._requeue_one(tag) for tag in tags)
            self._client.hdel(self._beats, worker)
        return requeued

    def _requeue_one(self, tag: str) -> int:
        unacked = self._prefix + "unacked"
        raw = cast("bytes | None", self._client.hget(unacked, tag))
        message, queue = _parsed(raw)
        if queue is None:  # acknowledged, or for Kombu to requeue
            self._client.hdel(self._prefix + HOLDERS, tag)
            return 0
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        message["properties"]["delivery_tag"] = str(uuid4())
        keys = [self._prefix + HOLDERS, unacked, unacked + "_index", self._prefix + queue]
        return int(self._requeue(keys=keys, args=[tag, json.dumps(message)]))


def _parsed(raw: bytes | None) -> tuple[dict[str, Any], str | None]:
    """A message as Kombu keeps it, and the list that it is for; None for one that is not ours."""
    try:
        message, _, queue = json.loads(raw or b"")
        priority = int(message["properties"].get("priority") or 0)
        message["headers"], message["properties"]["delivery_info"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}, None
    if queue not in NAMES:
        return {}, None
    step = max(one for one in PRIORITY_STEPS if one <= max(0, priority))
    return message, queue_key(queue, step)
