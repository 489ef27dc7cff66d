"""Drops messages that are none, whatever is in the queue: JSON is accepted, nothing else.

Upstream: Celery 5.7.0 refuses to unpickle, but a worker ends at some messages that are no
task's: a list item that is no JSON, or a body of bytes or of a bare number. The messages
that it had taken go to the next worker, which ends, too.
Issue: celery/celery issues 7975 and 4308, both open.
Delete when: a worker rejects such messages and goes on; tests/security/test_messages.py
then passes without this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from kombu.exceptions import DecodeError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from tasks.workarounds.trial_decoding import forget, is_readable

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/json"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Unreadable(ValueError):
    """It has not even an envelope."""


class BrokenWorker(Exception):
    """The worker fails at a good message: the message is requeued, and the worker ends."""


class Message(virtual.Message):
    """A message that has the parts that Kombu relies on. Raises Unreadable otherwise."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except _UNREADABLE as error:
            raise Unreadable from error
        if not isinstance(self.headers, dict):
            raise Unreadable


class CheckedChannel(kombu_redis.Channel):
    """A channel that drops each message that cannot be ours, with one line in the log.

    No work is lost: rows are pending in the database, and a message has only their ids.
    """

    Message = Message

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], *args: Any, **kwargs: Any
    ) -> Any:
        def check(message: Any) -> Any:
            if message.content_type != CONTENT_TYPE:
                return refuse(f"its content type is not {CONTENT_TYPE}", message)
            try:
                body = message.decode()  # Celery, which would log it, then uses this result
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

        return super().basic_consume(queue, no_ack, check, *args, **kwargs)

    def _brpop_read(self, **options: Any) -> Any:
        return self._unless_unreadable(lambda: super(CheckedChannel, self)._brpop_read(**options))

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
    """Whether `body` is one of Celery's message protocol 2: arguments, keywords, options."""
    return isinstance(body, list) and list(map(type, body)) == [list, dict, dict]
