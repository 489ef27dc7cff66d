"""`embed_star.embed_batch`: one provider call's rows."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery

from embed_star.errors import TransientError
from embed_star.models import Batch
from embed_star.settings import Settings
from tasks.base import ServiceTask, retries

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
        **retries(settings),
        rate_limit=settings.embed_rate_limit or None,
    )
    def embed_batch(task: ServiceTask, message: dict[str, Any]) -> dict[str, Any]:
        """Embed a batch; one outcome a row.

        Retries on transient errors, and never fails: an error in a header task would
        cost the whole chord its body. What is not settled stays pending in the database.
        """
        try:
            batch = Batch.from_json(message)
        except ValueError as error:
            log.error("message_refused", reason=str(error))
            return {"outcomes": []}
        embedder = task.services.embedder
        if not task.request.retries:
            embedder.started(batch)
        final = task.request.retries >= settings.retry_max
        try:
            outcomes = embedder.embed(batch, final=final)
        except TransientError:
            raise
        except Exception:  # a bug of ours: its rows stay pending, its chord goes on
            log.exception("batch_failed", rows=len(batch.rows))
            outcomes = []
        return {"outcomes": [outcome.to_json() for outcome in outcomes]}
