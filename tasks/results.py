"""Celery's results in Redis, for chords that nobody waits for."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend


class UnawaitedBackend(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """Counts the parts of chords, and watches no result.

    Celery subscribes to the channel of every header task that it sends, and keeps it and
    an object for each until its result comes. Ours are ignored and never come: a producer
    would end up with a subscription for each batch it ever sent.
    """

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:  # noqa: ARG002 - Celery's
        return result

    def remove_pending_result(self, result: Any) -> Any:
        return result


def use(app: Celery) -> None:
    """Make `app` keep its results so."""
    name = f"{UnawaitedBackend.__module__}:{UnawaitedBackend.__qualname__}"
    app.loader.override_backends = dict.fromkeys(("redis", "rediss"), name)
