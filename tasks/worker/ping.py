"""Asks which workers answer."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from embed_star.errors import RedisUnavailable


def answering_workers(app: Celery, expected: int, timeout_s: float = 1.0) -> list[str]:
    """Names of the workers that answer a ping, as soon as `expected` of them have answered.

    A worker that is dead or busy with more than `timeout_s` is missing. Raises RedisUnavailable.
    """
    if not expected:
        return []
    try:
        answers = app.control.ping(timeout=timeout_s, limit=expected)
    except (OperationalError, RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis: cannot ask the workers: {error}") from error
    return sorted(name for answer in answers for name in answer)
