"""Keeps a restart of Redis from ending a worker.

Upstream: Kombu 5.7.0 asks a connection for its host name while it closes a channel whose
connection is lost. There is none, and Celery cannot recover from the AttributeError: the
worker ends ("'NoneType' object has no attribute 'hostname'"). Seen with Redis killed and
back after 0.1 s, in about one restart of four under load.
Issue: celery/kombu issue 582, closed; it still happens.
Delete when: `Channel._connparams` of a closed channel raises a connection error by itself;
test_a_closed_connection_is_a_broken_one then passes without this file.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError


class ClosingChannel(kombu_redis.Channel):
    """Raises a connection error where its connection is closed."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection to Redis is closed")
        return super()._connparams(asynchronous)
