"""Messages that Redis does not let go of at once: done for this worker, and tried again."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog
from kombu.transport import redis as kombu_redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class QoS(kombu_redis.QoS):
    """Gives a message's place back, also when Redis refuses its acknowledgement.

    Kombu 5.7 keeps the place of a message that it could not acknowledge until its connection is
    lost. That one may live while no other is to be had (maxclients) or no write is taken
    (MISCONF, READONLY): a worker with no place left takes nothing any more. A message that stays
    unacknowledged comes again after VISIBILITY_TIMEOUT_S, and finds its rows done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._later: dict[str, bool] = {}

    def ack(self, delivery_tag: str) -> None:
        self._let_go(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._let_go(delivery_tag, requeue=requeue)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Every few seconds, in the consumer's loop. What is done is not given out again."""
        self._make_up_for()
        super().restore_visible(*args, **kwargs)

    def _let_go(self, tag: str, *, requeue: bool) -> None:
        try:
            super().reject(tag, requeue)
        except (RedisError, OSError) as error:
            self._later[tag] = requeue
            self._quick_ack(tag)
            log.warning("acknowledged_later", reason=str(error)[:160])
        else:
            self._make_up_for()

    def _make_up_for(self) -> None:
        with suppress(RedisError, OSError):
            for tag, requeue in list(self._later.items()):
                super().reject(tag, requeue)
                self._later.pop(tag, None)
