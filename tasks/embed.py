"""`embed_star.embed_batch`: one provider call's rows."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery
from celery.exceptions import Ignore, Retry
from celery.utils.time import get_exponential_backoff_interval

from embed_star.errors import AnotherSpace, ProviderThrottled, TransientError
from embed_star.models import Batch, has_version
from embed_star.settings import Settings
from embed_star.timings import RETRY_BACKOFF_S
from tasks.base import ServiceTask
from tasks.worker.requeue import put_back

log = structlog.get_logger(__name__)


def register(app: Celery, settings: Settings) -> None:
    """Register the task with `app`."""

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.embed_batch",
        bind=True,
        shared=False,  # with other apps of this process
        # Redis hands the outcomes to the chord's body by itself; kept as results as well,
        # they would fill it: 100 bytes a row for as long as results live.
        ignore_result=True,
        max_retries=settings.retry_max,
    )
    def embed_batch(
        task: ServiceTask,
        message: dict[str, Any],
        **_: Any,  # what a later version adds
    ) -> dict[str, Any]:
        """Embed a batch; one outcome a row.

        Retries on transient errors, and never fails: an error in a header task would
        cost the whole chord its body. What is not settled stays pending in the database.
        A throttled batch comes back when the provider says, and has not used an attempt.
        One that is of another version or space is put back for others. A copy of a
        message that is being worked at is left, without a part of it in the chord.
        """
        try:
            batch = Batch.from_json(message)
        except ValueError as error:
            if not has_version(message):
                log.error("message_refused", reason="not a message of ours")
                return {"outcomes": []}
            return _put_back(task, error)
        try:
            embedder = task.services.embedder
        except TransientError as error:  # a new process, and the database is away
            raise again(task, settings, error) from error
        if _is_copy(task, batch):
            log.warning("copy_ignored", rows=len(batch.rows))
            raise Ignore
        final = attempts(task) >= settings.retry_max
        try:
            outcomes = embedder.embed(batch, final=final)
        except AnotherSpace as error:
            return _put_back(task, error)
        except TransientError as error:
            raise again(task, settings, error) from error
        except Exception:  # a bug of ours: its rows stay pending, its chord goes on
            log.exception("batch_failed", rows=len(batch.rows))
            outcomes = []
        return {"outcomes": [outcome.to_json() for outcome in outcomes]}


def _is_copy(task: ServiceTask, batch: Batch) -> bool:
    """Whether another worker has begun this very message, and has not lost it since.

    Redis has a message twice when its answer to the publisher was lost. A message that is
    handed out again because a worker died says so.
    """
    request = task.request
    rows = 0 if request.retries else len(batch.rows)
    begun = task.services.embedder.started(batch, f"{request.id}:{request.retries}", rows=rows)
    return not begun and not (request.delivery_info or {}).get("redelivered")


def _put_back(task: ServiceTask, error: Exception) -> dict[str, Any]:
    retry = put_back(task, str(error))
    if retry is not None:
        raise retry
    return {"outcomes": []}


def attempts(task: ServiceTask) -> int:
    """How often the task has failed; coming back when the provider said does not count."""
    return int(task.request.retries) - _deferrals(task)


def again(task: ServiceTask, settings: Settings, error: TransientError) -> Retry:
    """The task once more: when the provider said, else backing off with jitter."""
    throttled = isinstance(error, ProviderThrottled) and error.retry_after_s is not None
    wait_s = (
        error.retry_after_s
        if isinstance(error, ProviderThrottled) and throttled
        else get_exponential_backoff_interval(
            RETRY_BACKOFF_S, attempts(task), settings.timings.retry_backoff_max_s, True
        )
    )
    headers = {**(task.request.headers or {}), "deferred": _deferrals(task) + throttled}
    retry: Retry = task.retry(
        exc=error,
        throw=False,
        countdown=wait_s,
        max_retries=task.request.retries + 1,  # `attempts` decides
        headers=headers,
    )
    return retry


def _deferrals(task: ServiceTask) -> int:
    return int((task.request.headers or {}).get("deferred", 0))
