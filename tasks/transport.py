"""Kombu's Redis transport as all our processes use it."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis

from tasks import queue_names
from tasks.workarounds import acknowledging
from tasks.workarounds.redis_restart import ClosingChannel
from tasks.workarounds.unreadable_messages import CheckedChannel


class Channel(ClosingChannel, CheckedChannel):
    """A channel with our workarounds, which asks for the prefix of its keys when it connects."""

    QoS = acknowledging.QoS

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
