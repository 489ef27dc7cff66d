"""Celery's pool of threads, cured of one fault: whatever happens, a slot is given back."""

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
    """Tells the worker of each task that it ended, also when Celery's own code raised.

    Celery 5.7 leaves an exception that comes from outside of a task, memory that has run out
    among them, in a future that nobody looks at: the request counts as running for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._futures: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """How many tasks it has, those included that wait for a thread. Any thread may ask."""
        return len(self._futures)

    def on_apply(
        self, *args: Any, error_callback: Callable[[Any], Any] | None = None, **kwargs: Any
    ) -> Any:
        result = super().on_apply(*args, **kwargs)
        self._futures.add(result.f)
        result.f.add_done_callback(partial(_give_back, error_callback))
        result.f.add_done_callback(self._futures.discard)
        return result

    def grow(self, n: int = 1) -> None:
        """Raises NotImplementedError; Celery would ask for it after it took a message."""
        del n
        raise NotImplementedError("a pool of threads keeps its size: start it with -c N")

    shrink = grow


def use() -> None:
    """Make `-P threads` and the default be `ThreadPool`. Twice changes nothing."""
    concurrency.ALIASES["threads"] = f"{ThreadPool.__module__}:{ThreadPool.__qualname__}"


def _give_back(failed: Callable[[Any], Any] | None, future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is None or failed is None:
        return
    log.error("task_broken", reason=f"{type(error).__name__}: {error}"[:160])
    # Not as it is: Celery raises some of them once more.
    failure = RuntimeError(f"outside of the task: {error!r}")
    try:
        failed(ExceptionInfo((RuntimeError, failure, error.__traceback__)))
    except Exception:
        log.exception("slot_not_given_back")
