"""`embed_star.embed_batch`: one provider call's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from celery.exceptions import Ignore

from embed_star.errors import AnotherSpace, TakenOver, TransientError
from embed_star.models import Batch, Outcome, has_version
from embed_star.settings import Settings
from tasks.base import ServiceTask, state_of
from tasks.store import store
from tasks.worker.requeue import requeue
from tasks.worker.retry import attempts, retry_later

if TYPE_CHECKING:
    from embed_star.embed.embedder import Embedder
    from embed_star.embed.turns import Turn

log = structlog.get_logger(__name__)

NO_OUTCOMES: dict[str, Any] = {"outcomes": []}


def register(app: Celery, settings: Settings) -> None:
    """Register the task with `app`."""

    @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
        name="embed_star.embed_batch",
        bind=True,
        shared=False,  # with other apps of this process
        # Redis hands the outcomes to the chord's body by itself. Kept as results as well,
        # they would fill it: 100 bytes a row for as long as results live.
        ignore_result=True,
        max_retries=settings.retry_max,
    )
    def embed_batch(
        task: ServiceTask,
        message: dict[str, Any],
        **_: Any,  # of a later version
    ) -> dict[str, Any]:
        """Embed a batch; one outcome for each row.

        Retries on transient errors and never fails: an error in a header task would cost
        the whole chord its body. Rows without an outcome stay pending in the database.
        """
        try:
            batch = Batch.from_json(message)
        except ValueError as error:
            return _unreadable(task, message, error)
        try:
            outcomes = _embed(task, batch)
        except (AnotherSpace, TransientError) as error:
            task.services.embedder.waits(batch)
            if isinstance(error, AnotherSpace):
                return _requeue(task, error)
            raise retry_later(task, error) from error
        return _hand_on(task, batch, outcomes)


def _hand_on(task: ServiceTask, batch: Batch, outcomes: list[Outcome]) -> dict[str, Any]:
    """The outcomes for the run's `store_embeddings`; none if they are stored here already.

    Of a run of one batch, that task is the callback. It would only wait for this one, so its work
    is done here and now: a message less, a third of what a fresh row waits for. What goes wrong
    is for that task, which is tried again.
    """
    if task.request.callbacks:
        try:
            store(task, batch.run_id, outcomes, batch.space)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing paid for is lost
            log.warning("store_put_off", reason=str(error)[:160])
        else:
            task.request.callbacks = None
            return NO_OUTCOMES
    return {"outcomes": [outcome.to_json() for outcome in outcomes]}


def _embed(task: ServiceTask, batch: Batch) -> list[Outcome]:
    """The outcomes; none after a bug of ours, so that the chord goes on.

    Raises AnotherSpace, TransientError, and Ignore for a copy of a message, and for one that
    another worker has taken over: that worker brings the chord its part.
    """
    embedder = task.services.embedder  # a new process asks the database for it
    turn = _turn(task, embedder, batch)
    if turn is None:
        log.warning("copy_ignored", rows=len(batch.rows))
        raise Ignore
    final = attempts(task) >= state_of(task.app).settings.retry_max
    try:
        return embedder.embed(batch, final=final, turn=turn)
    except (AnotherSpace, TransientError):
        raise
    except TakenOver as error:
        log.warning("batch_taken_over", reason=str(error), rows=len(batch.rows))
        raise Ignore from error
    except Exception:
        log.exception("batch_failed", rows=len(batch.rows))
        return []


def _turn(task: ServiceTask, embedder: Embedder, batch: Batch) -> Turn | None:
    """This worker's turn; None if another worker has begun this very message and still has it.

    Redis has a message twice when its reply to the publisher was lost. A message that is
    delivered again because a worker died is marked, and is no copy.
    """
    request = task.request
    again = bool((request.delivery_info or {}).get("redelivered"))
    return embedder.started(batch, f"{request.id}:{request.retries}", again=again)


def _unreadable(task: ServiceTask, message: Any, error: ValueError) -> dict[str, Any]:
    """Refuse a message that is not ours; requeue one of another version."""
    if has_version(message):
        return _requeue(task, error)
    log.error("message_refused", reason="not a message of ours")
    return NO_OUTCOMES


def _requeue(task: ServiceTask, error: Exception) -> dict[str, Any]:
    """Raise the requeue; no outcomes when the message is set aside instead."""
    retry = requeue(task, str(error))
    if retry is not None:
        raise retry
    return NO_OUTCOMES
