"""Asks which workers answer."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from embed_star.errors import RedisUnavailable


def answering_workers(app: Celery, timeout_s: float = 1.0) -> list[str]:
    """Names of the workers that answer a ping within `timeout_s`. Raises RedisUnavailable."""
    try:
        answers = app.control.ping(timeout=timeout_s)
    except (OperationalError, RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis: cannot ask the workers: {error}") from error
    return sorted(name for answer in answers for name in answer)
