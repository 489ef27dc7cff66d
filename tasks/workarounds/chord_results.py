"""Celery's results in Redis, for chords that nobody waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import structlog
from celery import Celery, states
from celery._state import get_current_task
from celery.backends.redis import RedisBackend

from tasks import queue_names

log = structlog.get_logger(__name__)

AWAY_S = 30.0
"""How long Redis is waited for: about as long as the rows' locks last."""
_ASK_AGAIN_S = 0.5

NOTHING: dict[str, list[Any]] = {"outcomes": []}
"""The part of a header task that failed."""


class UnawaitedBackend(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """Counts the parts of chords, and watches no result.

    Celery subscribes to the channel of every header task that it sends, and keeps it and
    an object for each until its result comes. Ours are ignored and never come: a producer
    would end up with a subscription for each batch it ever sent.

    What a worker does here after a task raises nothing. Celery calls it again for the error
    that it raised, outside of anything that catches: the pool is never told that the task has
    ended, and its slot is lost for ever. A part that is not counted costs time only: its
    vectors are in the cache, and its rows are claimed anew once their locks end.
    """

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:  # noqa: ARG002 - Celery's
        return result

    def remove_pending_result(self, result: Any) -> Any:
        return result

    def _get_key_for(self, prefix: bytes, id: Any, key: str = "") -> bytes:  # noqa: A002 - Celery's
        name: bytes = super()._get_key_for(prefix, id, key)
        prefixed: bytes = self.key_t(queue_names.prefix_of(self.app)) + name
        return prefixed

    def mark_as_done(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        with _told("result_not_kept", task_id):
            super().mark_as_done(task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        with _told("result_not_kept", task_id):
            super().mark_as_failure(task_id, *args, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        with _told("result_not_kept", task_id):
            super().mark_as_revoked(task_id, *args, **kwargs)

    def store_result(self, task_id: str, result: Any, *args: Any, **kwargs: Any) -> Any:
        with _told("result_not_kept", task_id):
            super().store_result(task_id, result, *args, **kwargs)
        return result

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Count a part, when Redis is back or writes again if need be.

        A part that is not counted costs its chord the body: paid vectors wait in the cache
        until the locks of all its rows have ended. Counting it twice changes nothing. The part
        of a task that failed is empty, so that the others of its chord are stored.
        """
        if state != states.SUCCESS:
            state, result = states.SUCCESS, NOTHING
        with _told("chord_part_lost", request.id):
            until = time.monotonic() + (AWAY_S if _in_a_slot() else 0.0)
            while True:
                try:
                    super().on_chord_part_return(request, state, result, *args, **kwargs)
                    return
                except redis.exceptions.NoPermissionError:
                    raise
                except redis.RedisError as error:
                    if time.monotonic() >= until:
                        raise
                    log.warning("chord_part_waits", reason=str(error)[:160])
                time.sleep(_ASK_AGAIN_S)

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> None:
        """The body cannot be sent. Nobody waits for its result, so none is written."""
        log.error("chord_lost", task_id=callback.id, reason=str(exc)[:160])


def _in_a_slot() -> bool:
    """Whether this is a task, which may wait; not the loop that takes messages."""
    return get_current_task() is not None


@contextmanager
def _told(event: str, task_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the slot must be given back
        log.error(event, task_id=task_id, reason=f"{type(error).__name__}: {error}"[:160])


def use(app: Celery) -> None:
    """Make `app` keep its results so."""
    name = f"{UnawaitedBackend.__module__}:{UnawaitedBackend.__qualname__}"
    app.loader.override_backends = dict.fromkeys(("redis", "rediss"), name)
