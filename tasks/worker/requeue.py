"""Messages for other workers than this one: put back with a delay, in the end set aside.

While a deployment is under way, workers of two versions or with two models share the
queues. A message is never acknowledged away because the wrong one got it.
"""

from __future__ import annotations

from contextlib import suppress

import structlog
from celery.exceptions import Retry

from embed_star.errors import RedisUnavailable
from tasks.base import ServiceTask

log = structlog.get_logger(__name__)

DELAYS_S = (1, 2, 4, 8, 8, 8, 8, 8)
"""Of each time that one message is put back. By their sum, the rows' locks are over and
the message is of no use to anybody."""


def put_back(task: ServiceTask, reason: str) -> Retry | None:
    """The message once more, for whoever takes it then; to be raised.

    None after the last time: it is set aside, and its rows are claimed anew once their
    locks end. Costs the task no attempt.
    """
    request = task.request
    headers = request.headers or {}
    times = int(headers.get("put_back", 0))
    if times == len(DELAYS_S):
        log.error("message_set_aside", reason=reason, times=times)
        with suppress(RedisUnavailable):
            message = {"args": request.args, "kwargs": request.kwargs}
            task.services.dead_letters.add(task.name, message, reason)
        return None
    if not times:
        log.error("message_put_back", reason=reason, retry_in_s=DELAYS_S[0])
    counts = {"put_back": times + 1, "deferred": int(headers.get("deferred", 0)) + 1}
    retry: Retry = task.retry(
        throw=False,
        countdown=DELAYS_S[times],
        max_retries=request.retries + 1,
        headers={**headers, **counts},
    )
    return retry
