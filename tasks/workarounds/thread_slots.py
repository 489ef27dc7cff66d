"""Frees a slot of the pool of threads whatever happens in it.

Upstream: in a pool of threads, Celery 5.7.0 leaves an exception from outside of the task's
own code, for instance a MemoryError, in a future that nobody reads. The request counts as
running for ever, and its slot is lost.
Issue: celery/celery issue 10462 describes the same for MemoryError in a pool of processes.
Delete when: `celery.concurrency.thread.TaskPool.on_apply` calls its error callback for the
exception of a future. `busy` and `grow` would then need another place: `pool_slots` asks
for the first, and the second refuses a resize before a message is taken for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import concurrency
from celery.concurrency.thread import TaskPool

log = structlog.get_logger(__name__)


class ThreadPool(TaskPool):  # type: ignore[misc]  # Celery has no types
    """Tells the worker that a task ended, even when Celery's own code raised."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._futures: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """How many tasks it has, with those that wait for a thread. Any thread may ask."""
        return len(self._futures)

    def on_apply(
        self, *args: Any, error_callback: Callable[[Any], Any] | None = None, **kwargs: Any
    ) -> Any:
        result = super().on_apply(*args, **kwargs)
        self._futures.add(result.f)
        result.f.add_done_callback(partial(_free_slot, error_callback))
        result.f.add_done_callback(self._futures.discard)
        return result

    def grow(self, n: int = 1) -> None:
        """Raises NotImplementedError; Celery would ask for it after it took a message."""
        del n
        raise NotImplementedError("a pool of threads keeps its size: start it with -c N")

    shrink = grow


def apply() -> None:
    """Use `ThreadPool` for `-P threads` and by default. Twice changes nothing."""
    concurrency.ALIASES["threads"] = f"{ThreadPool.__module__}:{ThreadPool.__qualname__}"


def _free_slot(failed: Callable[[Any], Any] | None, future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is None or failed is None:
        return
    log.error("task_broken", reason=f"{type(error).__name__}: {error}"[:160])
    # In a RuntimeError: Celery raises some types once more.
    failure = RuntimeError(f"outside of the task: {error!r}")
    try:
        failed(ExceptionInfo((RuntimeError, failure, error.__traceback__)))
    except Exception:
        log.exception("slot_not_given_back")
