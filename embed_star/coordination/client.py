"""Makes Redis clients, and maps their errors to ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from embed_star.errors import ConfigError, RedisUnavailable


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A thread-safe client with its own pool. It connects when it is first used.

    A failed command is tried once more, since an idle connection may have been dropped. So a
    command takes at most twice `timeout_s`.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 1),
    )


CLUSTER = (
    "it is a Redis Cluster, which Celery's queues cannot be kept in: name a single Redis, or a "
    "primary with replicas, in REDIS_URL and CACHE_URL"
)
_OF_A_CLUSTER = (  # MOVED, ASK, CROSSSLOT, CLUSTERDOWN
    redis.exceptions.AskError,
    redis.exceptions.ClusterCrossSlotError,
    redis.exceptions.ClusterDownError,
)


@contextmanager
def redis_errors(what: str) -> Iterator[None]:
    """Map errors of the client to RedisUnavailable: "cannot `what`"."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise RedisUnavailable(
            f"Redis: cannot {what}: it is out of memory; raise its maxmemory, or give the "
            "cache a Redis of its own with CACHE_URL"
        ) from error
    except _OF_A_CLUSTER as error:
        raise RedisUnavailable(f"Redis: cannot {what}: {CLUSTER}") from error
    except redis.RedisError as error:
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise RedisUnavailable(f"Redis: cannot {what}: {reason}") from error


def check_writes(client: redis.Redis) -> None:
    """Raise RedisUnavailable unless Redis accepts writes. Changes no existing key.

    A Redis can be readable only: when its memory or disk is full, or on a replica.
    """
    with redis_errors("write"):
        client.set(f"embed_star:written:{uuid4().hex}", b"", px=1000)


def check_single(client: redis.Redis) -> None:
    """Raise ConfigError if this is a node of a Redis Cluster. Raises RedisUnavailable."""
    with redis_errors("say what it is"):
        try:
            found = client.info("cluster")
        except redis.ResponseError:  # INFO is not for everybody
            return
    if found.get("cluster_enabled"):
        raise ConfigError(f"Redis at {_address(client)}: {CLUSTER}")


def _address(client: redis.Redis) -> str:
    known = client.connection_pool.connection_kwargs
    return f"{known.get('host')}:{known.get('port')}"


def eviction_policy(client: redis.Redis) -> str:
    """The rule by which a full Redis drops keys; empty if it drops none, or hides its rule.

    Raises RedisUnavailable.
    """
    with redis_errors("say how it is set up"):
        try:
            policy = str(client.info("memory").get("maxmemory_policy", ""))
        except redis.ResponseError:  # INFO is not for everybody
            return ""
    return "" if policy == "noeviction" else policy


EVICTS = (
    "Redis evicts keys (maxmemory-policy {policy}), so queued work can vanish: set "
    "noeviction, and give the cache a Redis of its own with CACHE_URL"
)


def keeps_nothing(client: redis.Redis) -> bool:
    """Whether this Redis is known to write neither an append-only file nor snapshots.

    Raises RedisUnavailable.
    """
    with redis_errors("say how it is set up"):
        try:
            found = client.config_get("save", "appendonly")
        except redis.ResponseError:  # hosted ones have no CONFIG
            return False
    return found.get("save") == "" and found.get("appendonly") == "no"


def shown_url(url: str) -> str:
    """`url` without user and password, for messages."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
