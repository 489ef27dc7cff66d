"""Redis clients, and the one place where their errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from embed_star.errors import RedisUnavailable


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A thread-safe client with a pool of its own; connects when first used."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 2),
    )


@contextmanager
def redis_errors(what: str) -> Iterator[None]:
    """Turn errors of the client into RedisUnavailable, saying `what` could not be done."""
    try:
        yield
    except redis.RedisError as error:
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise RedisUnavailable(f"Redis: cannot {what}: {reason}") from error


def shown_url(url: str) -> str:
    """`url` without user and password, for messages."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
