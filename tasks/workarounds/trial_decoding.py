"""Tells whether a message or the worker is at fault when the message cannot be handled.

Upstream: as for `unreadable_messages`, of which this is a part: Celery 5.7.0 raises the same
types for a bad message and for a worker whose pool is broken.
Issue: the same.
Delete when: `unreadable_messages` goes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from celery import current_app
from celery.worker import state
from celery.worker.strategy import default


def is_readable(message: Any) -> bool:
    """Whether Celery can make a task of it.

    Tries everything that a worker does with a message, with a pool that runs nothing.
    """
    # A worker makes its app the current one.
    task = current_app.tasks.get(message.headers.get("task"))
    if task is None:
        return False
    pool = SimpleNamespace(apply_async=_ignore)
    consumer = SimpleNamespace(
        hostname="",
        connection_errors=(),
        event_dispatcher=None,
        timer=SimpleNamespace(call_at=_ignore),
        apply_eta_task=_ignore,
        disable_rate_limits=True,
        task_buckets={},
        on_task_request=lambda request: request.execute_using_pool(pool),
        _limit_task=_ignore,
        _limit_post_eta=_ignore,
        pool=pool,
        controller=SimpleNamespace(state=state),
    )
    try:
        default(task, current_app, consumer)(message, None, _ignore, _ignore, ())
    except Exception:  # noqa: BLE001 - whatever it is, the message is its cause
        return False
    finally:
        forget(message)
    return True


def forget(message: Any) -> None:
    """Free the slot that the worker has reserved for it, if there is one."""
    requests = {*state.requests.values(), *state.reserved_requests, *state.scheduled_requests}
    for request in requests:
        if request.message is message:
            state.task_ready(request)
            state.scheduled_requests.discard(request)


def _ignore(*_: Any, **__: Any) -> None:
    """Stands for everything that a worker would do with the task."""
