"""`embed_star.store_embeddings`: what follows a run's batches, one bulk write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery

from embed_star.errors import AnotherSpace
from embed_star.models import Outcome
from embed_star.settings import Settings
from tasks.base import ServiceTask, retries
from tasks.worker.requeue import requeue

log = structlog.get_logger(__name__)


def register(app: Celery, settings: Settings) -> None:
    """Register the task with `app`."""

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.store_embeddings",
        bind=True,
        shared=False,  # with other apps of this process
        ignore_result=True,
        **retries(settings),
    )
    def store_embeddings(
        task: ServiceTask,
        parts: Any,
        run_id: str,
        space: str | None = None,
        **_: Any,  # of a later version
    ) -> None:
        """Write the outcomes of all batches of a run. Twice, or late, changes nothing."""
        try:
            store(task, run_id, _outcomes(parts), space)
        except (ValueError, AnotherSpace) as error:
            retry = requeue(task, str(error))
            if retry is not None:
                raise retry from error


def store(task: ServiceTask, run_id: str, outcomes: Sequence[Outcome], space: str | None) -> None:
    """Write the outcomes of a run within `task`. Raises TransientError and AnotherSpace."""
    tally = task.services.storer.store(run_id, outcomes, space)
    log.info("run_stored", **{status.value: rows for status, rows in tally.items() if rows})


def _outcomes(parts: Any) -> list[Outcome]:
    """The outcomes in the results of `embed_batch`. Raises ValueError for unknown ones."""
    # A callback gets the one result as it is.
    results = [parts] if isinstance(parts, dict) else parts
    try:
        return [Outcome.from_json(one) for part in results for one in part["outcomes"]]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not the results of a run: {error}") from error
