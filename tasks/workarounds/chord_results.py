"""Celery's results in Redis, for chords whose results nobody reads.

Upstream: Celery 5.7.0 subscribes to a channel of Redis for every header task that it sends,
until the task's result comes; ours are ignored and never come. And an exception that its
result backend raises after a task leaves the pool without notice of the task's end.
Issue: celery/celery issues 3808 and 5320 (subscriptions), both open.
Delete when: a task with `ignore_result` is sent without a subscription, and the worker
survives a backend that raises in `on_chord_part_return` and `mark_as_done`; the cases of
tests/celery/test_slots.py show the second. The prefix of the keys would need another place.
"""

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
"""A task waits this long for Redis to come back: about as long as its rows' locks last."""
_POLL_S = 0.5

EMPTY_PART: dict[str, list[Any]] = {"outcomes": []}
"""The result of a header task that failed."""


class UnawaitedBackend(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """Counts the parts of chords, and subscribes to no result.

    With subscriptions, a producer would end up with one for each batch it ever sent. Whatever
    happens here after a task, nothing is raised: Celery would call this again for the error,
    outside of anything that catches, and the pool's slot would be lost for ever. A part that
    is not counted costs only time: its vectors are in the cache, and its rows are claimed
    again once their locks end.
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
        with _logged("result_not_kept", task_id):
            super().mark_as_done(task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        with _logged("result_not_kept", task_id):
            super().mark_as_failure(task_id, *args, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        with _logged("result_not_kept", task_id):
            super().mark_as_revoked(task_id, *args, **kwargs)

    def store_result(self, task_id: str, result: Any, *args: Any, **kwargs: Any) -> Any:
        with _logged("result_not_kept", task_id):
            super().store_result(task_id, result, *args, **kwargs)
        return result

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Count a part; wait for Redis when it is down or accepts no writes.

        Without all parts a chord never gets its body: its vectors, which are paid for, would
        wait in the cache until the locks of its rows end. Twice changes nothing. The part of
        a failed task is empty, so that the others of its chord are stored.
        """
        if state != states.SUCCESS:
            state, result = states.SUCCESS, EMPTY_PART
        with _logged("chord_part_lost", request.id):
            until = time.monotonic() + (AWAY_S if _is_in_task() else 0.0)
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
                time.sleep(_POLL_S)

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> None:
        """Log that the body cannot be sent. No result is written, since nobody reads it."""
        log.error("chord_lost", task_id=callback.id, reason=str(exc)[:160])


def _is_in_task() -> bool:
    """Whether a task calls, which may wait; the loop that takes messages may not."""
    return get_current_task() is not None


@contextmanager
def _logged(event: str, task_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the slot must be freed
        log.error(event, task_id=task_id, reason=f"{type(error).__name__}: {error}"[:160])


def apply(app: Celery) -> None:
    """Use `UnawaitedBackend` for the results of `app`."""
    name = f"{UnawaitedBackend.__module__}:{UnawaitedBackend.__qualname__}"
    app.loader.override_backends = dict.fromkeys(("redis", "rediss"), name)
