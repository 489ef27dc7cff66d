"""Messages for other workers: requeued with a delay, and set aside in the end.

During a deployment, workers of two versions or with two models share the queues. A wrong
worker never acknowledges a message away. Example: an old worker gets a batch of a newer
version; it requeues the message, and a new worker takes it a second later.
"""

from __future__ import annotations

from contextlib import suppress

import structlog
from celery.exceptions import Retry

from embed_star.errors import RedisUnavailable
from tasks.base import ServiceTask
from tasks.worker.retry import DEFERRED, deferrals

log = structlog.get_logger(__name__)

DELAYS_S = (1, 2, 4, 8, 8, 8, 8, 8)
"""The delay of each requeue of one message. After all of them the rows' locks have ended,
and the message is useless."""

_REQUEUED = "put_back"
"""The header that counts the requeues of a message."""


def requeue(task: ServiceTask, reason: str) -> Retry | None:
    """Requeue the message for another worker; raise the result.

    Returns None after the last delay: the message is then a dead letter, and its rows are
    claimed again once their locks end. A requeue does not count as an attempt of the task.
    """
    request = task.request
    headers = request.headers or {}
    times = int(headers.get(_REQUEUED, 0))
    if times == len(DELAYS_S):
        log.error("message_set_aside", reason=reason, times=times)
        with suppress(RedisUnavailable):
            message = {"args": request.args, "kwargs": request.kwargs}
            task.services.dead_letters.add(task.name, message, reason)
        return None
    if not times:
        log.error("message_put_back", reason=reason, retry_in_s=DELAYS_S[0])
    counts = {_REQUEUED: times + 1, DEFERRED: deferrals(task) + 1}
    retry: Retry = task.retry(
        throw=False,
        countdown=DELAYS_S[times],
        max_retries=request.retries + 1,
        headers={**headers, **counts},
    )
    return retry
