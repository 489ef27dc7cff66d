"""Kombu's Redis transport as all our processes use it."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from time import time
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import dumps

from embed_star.coordination.workers import HOLDERS
from tasks import queue_names
from tasks.workarounds import acknowledging
from tasks.workarounds.redis_restart import ClosingChannel
from tasks.workarounds.unreadable_messages import CheckedChannel


class QoS(acknowledging.QoS):
    """Notes who holds a message, in the same round trip as the message."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """What Kombu does, and the holder's name."""
        info = message.delivery_info
        kept = dumps([message._raw, info["exchange"], info["routing_key"]])
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time()})
            pipe.hset(self.unacked_key, delivery_tag, kept)
            pipe.hset(HOLDERS, delivery_tag, self.channel.holder)
            pipe.execute()
        virtual.QoS.append(self, message, delivery_tag)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        return super()._remove_from_indices(delivery_tag, pipe).hdel(HOLDERS, delivery_tag)


class Channel(ClosingChannel, CheckedChannel):
    """A channel with our workarounds, which asks for the prefix of its keys when it connects."""

    QoS = QoS
    holder = ""
    """The transport option of this name: who takes the messages. Empty in what is no worker."""
    from_transport_options: Any = (*ClosingChannel.from_transport_options, "holder")

    def _get_client(self) -> Any:
        self.global_keyprefix = queue_names.known(self.global_keyprefix)
        return super()._get_client()

    def finish_poll(self) -> None:
        """Read the reply to the pop under way; its message goes back into its queue.

        For a channel that no longer consumes. Waits for a second at most.
        """
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                self._brpop_read()


def apply() -> None:
    """Use `Channel` for every Redis connection of this process. Twice changes nothing."""
    kombu_redis.Transport.Channel = Channel
