"""Kombu's Redis transport, cured of one fault: a restart of Redis must not end a worker."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tasks import queue_names
from tasks.worker.accept import IntakeChannel


class Channel(IntakeChannel):
    """A channel that says of its closed connection that it is closed.

    Kombu 5.7.0 asks the connection for its host name while a channel is closed after the
    connection was lost; there is none, and the AttributeError is no error that Celery
    knows to recover from: the worker ends ("'NoneType' … 'hostname'"). Seen with Redis
    killed and back after 0.1 s, in one restart of about four under load.
    """

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection to Redis is closed")
        return super()._connparams(asynchronous)

    def _get_client(self) -> Any:
        self.global_keyprefix = queue_names.known(self.global_keyprefix)
        return super()._get_client()

    def finish_poll(self) -> None:
        """Take the answer to the pop under way: what comes with it goes back into its queue.

        For a channel that no longer consumes. Waits for a second at most.
        """
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                self._brpop_read()


def cure() -> None:
    """Make every Redis connection of this process use `Channel`. Twice changes nothing."""
    kombu_redis.Transport.Channel = Channel
