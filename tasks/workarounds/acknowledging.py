"""Acknowledges later what Redis does not acknowledge at once.

Upstream: Kombu 5.7.0 counts a message that it could not acknowledge as taken until its
connection is lost. That connection may live on while no other one is to be had (maxclients)
or no write is accepted (MISCONF, READONLY). A worker whose places are all taken then
consumes nothing more.
Issue: none known.
Delete when: Kombu's QoS frees the place of a message whose ack or reject raised;
tests/celery/test_acknowledging.py then passes without this file.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog
from kombu.transport import redis as kombu_redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class QoS(kombu_redis.QoS):
    """Frees a message's place even when Redis refuses the acknowledgement.

    The acknowledgement is tried again, and until then the message is not delivered again
    here. If the worker ends first, the message comes again after VISIBILITY_TIMEOUT_S and
    finds its rows done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._later: dict[str, bool] = {}

    def ack(self, delivery_tag: str) -> None:
        self._settle(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._settle(delivery_tag, requeue=requeue)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Every few seconds, in the consumer's loop. First settles what is still owed."""
        self._settle_later_ones()
        super().restore_visible(*args, **kwargs)

    def _settle(self, tag: str, *, requeue: bool) -> None:
        try:
            super().reject(tag, requeue)
        except (RedisError, OSError) as error:
            self._later[tag] = requeue
            self._quick_ack(tag)
            log.warning("acknowledged_later", reason=str(error)[:160])
        else:
            self._settle_later_ones()

    def _settle_later_ones(self) -> None:
        with suppress(RedisError, OSError):
            for tag, requeue in list(self._later.items()):
                super().reject(tag, requeue)
                self._later.pop(tag, None)
