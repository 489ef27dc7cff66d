"""Which messages a process takes from Redis: JSON and nothing else, whatever is in the queue.

Celery refuses to unpickle, but dies of some messages that are no task's: a list item that
is no JSON, or a body of bytes or of a bare number. What it had taken is then given to the next
worker, which dies, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from kombu.exceptions import DecodeError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from tasks.workarounds.acknowledging import QoS
from tasks.worker.decode_check import forget, is_readable

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/json"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Unreadable(ValueError):
    """Not even an envelope."""


class BrokenWorker(Exception):
    """It fails at a message that is well: the message goes back, and the worker ends."""


class Message(virtual.Message):
    """A message with the parts that Kombu relies on."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except _UNREADABLE as error:
            raise Unreadable from error
        if not isinstance(self.headers, dict):
            raise Unreadable


class IntakeChannel(kombu_redis.Channel):
    """A channel that drops, with one line in the log, what cannot be one of our messages.

    Nothing is lost by it: rows are pending in the database, and a message is only ids.
    """

    Message = Message
    QoS = QoS

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], *args: Any, **kwargs: Any
    ) -> Any:
        def careful(message: Any) -> Any:
            if message.content_type != CONTENT_TYPE:
                return refuse(f"its content type is not {CONTENT_TYPE}", message)
            try:
                body = message.decode()  # kept: Celery, which would log it, does not do it again
            except DecodeError:
                return refuse("its body is no JSON", message)
            if "task" in message.headers and not _is_call(body):
                return refuse("its body is no task's arguments", message)
            try:
                return callback(message)
            except _UNREADABLE as error:
                forget(message)
                if is_readable(message):
                    raise BrokenWorker(f"cannot begin a task: {error!r}") from error
                log.exception("message_failed", queue=queue)
                return refuse("it cannot be handled", message)

        def refuse(reason: str, message: Any) -> None:
            log.error("message_refused", queue=queue, reason=reason)
            if not no_ack and not message.acknowledged:
                message.reject()

        return super().basic_consume(queue, no_ack, careful, *args, **kwargs)

    def _brpop_read(self, **options: Any) -> Any:
        return self._unless_unreadable(lambda: super(IntakeChannel, self)._brpop_read(**options))

    def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
        deliver = super()._deliver_fanout_message
        return self._unless_unreadable(lambda: deliver(message, exchange))

    def _unless_unreadable(self, deliver: Callable[[], Any]) -> Any:
        try:
            return deliver()
        except (ValueError, RecursionError):
            log.error("message_refused", reason="it is no message")
            return True


def _is_call(body: Any) -> bool:
    """Whether it is what Celery's message protocol 2 has in a body."""
    return isinstance(body, list) and list(map(type, body)) == [list, dict, dict]
