"""Celery's results in Redis, for chords that nobody waits for."""

from __future__ import annotations

import time
from typing import Any

import redis
import structlog
from celery import Celery
from celery.backends.redis import RedisBackend

log = structlog.get_logger(__name__)

AWAY_S = 30.0
"""How long Redis is waited for: about as long as the rows' locks last."""
_ASK_AGAIN_S = 0.5


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

    def on_chord_part_return(self, *args: Any, **kwargs: Any) -> Any:
        """Count a part, when Redis is back if need be.

        A part that is not counted costs its chord the body: paid vectors wait in the cache
        until the locks of all its rows have ended. Counting it twice changes nothing.
        """
        until = time.monotonic() + AWAY_S
        while True:
            try:
                return super().on_chord_part_return(*args, **kwargs)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if time.monotonic() >= until:
                    raise
                log.warning("chord_part_waits", reason=str(error)[:160])
            time.sleep(_ASK_AGAIN_S)


def use(app: Celery) -> None:
    """Make `app` keep its results so."""
    name = f"{UnawaitedBackend.__module__}:{UnawaitedBackend.__qualname__}"
    app.loader.override_backends = dict.fromkeys(("redis", "rediss"), name)
