"""Producers hand their runs to workers here, as Celery chords."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery, chord
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from embed_star.errors import RedisUnavailable
from embed_star.models import Batch, Lane

PRIORITY = {Lane.FRESH: 0, Lane.BACKFILL: 9}
"""0 is served first on Redis."""


class CeleryDispatcher:
    """The `Dispatcher` of `produce.backlog` over Celery.

    A run is a chord: `embed_batch` for each batch, then one `store_embeddings`. A run of one
    batch needs no count of its parts: there, `store_embeddings` is the callback of the only
    `embed_batch`. The messages hold ids only, and the run's id is also in every header.
    """

    def __init__(self, app: Celery) -> None:
        self._embed = app.tasks["embed_star.embed_batch"]
        self._store = app.tasks["embed_star.store_embeddings"]
        self._reconcile = app.tasks["embed_star.reconcile"]

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        """Enqueue a run. Raises RedisUnavailable; it may be enqueued all the same."""
        run_id = batches[0].run_id
        priority = PRIORITY[lane]
        header = [
            self._embed.s(batch.to_json()).set(
                priority=priority,
                headers={"run_id": run_id, "correlation_id": batch.correlation_id},
            )
            for batch in batches
        ]
        body = self._store.s(run_id=run_id, space=batches[0].space).set(
            priority=priority, headers={"run_id": run_id}
        )
        with _publishing("a run"):
            if len(header) == 1:
                header[0].apply_async(link=body)
            else:
                chord(header)(body)

    def reconcile(self) -> None:
        """Ask for a reconcile soon. Raises RedisUnavailable."""
        with _publishing("a reconcile"):
            self._reconcile.apply_async()


@contextmanager
def _publishing(what: str) -> Iterator[None]:
    try:
        yield
    except (OperationalError, RedisError) as error:
        raise RedisUnavailable(f"cannot enqueue {what}: {error}") from error
