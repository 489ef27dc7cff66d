"""Retries of `embed_batch`, whose attempts do not include the waits for the provider."""

from __future__ import annotations

from celery.exceptions import Retry
from celery.utils.time import get_exponential_backoff_interval

from embed_star.errors import ProviderThrottled, TransientError
from embed_star.timings import RETRY_BACKOFF_S
from tasks.base import ServiceTask, state_of

DEFERRED = "deferred"
"""The header that counts the retries that are no attempts."""


def deferrals(task: ServiceTask) -> int:
    """How many of the task's retries were no attempts."""
    return int((task.request.headers or {}).get(DEFERRED, 0))


def attempts(task: ServiceTask) -> int:
    """How often the task has failed. Example: two retries, one of them after a 429, are 1."""
    return int(task.request.retries) - deferrals(task)


def retry_later(task: ServiceTask, error: TransientError) -> Retry:
    """Retry the task when the provider says, else with backoff and jitter; raise the result."""
    settings = state_of(task.app).settings
    wait_s = error.retry_after_s if isinstance(error, ProviderThrottled) else None
    throttled = wait_s is not None
    if wait_s is None:
        wait_s = get_exponential_backoff_interval(
            RETRY_BACKOFF_S, attempts(task), settings.timings.retry_backoff_max_s, True
        )
    headers = {**(task.request.headers or {}), DEFERRED: deferrals(task) + throttled}
    retry: Retry = task.retry(
        exc=error,
        throw=False,
        countdown=wait_s,
        max_retries=task.request.retries + 1,  # `attempts` decides
        headers=headers,
    )
    return retry
