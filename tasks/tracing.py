"""Traces across processes: message headers carry the context, and each task is a span."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from celery import Celery, signals

from embed_star.errors import ConfigError
from embed_star.events import Listeners
from embed_star.settings import Settings
from tasks.base import state_of
from tasks.worker.signals import on

if TYPE_CHECKING:
    from embed_star.observe.tracing import Tracing

_TRACEPARENT = "traceparent"
_SHOWN = ("run_id", "correlation_id")


def connect(app: Celery, settings: Settings) -> None:
    """Trace the workers of `app`; does nothing without an endpoint."""
    if not settings.tracing_endpoint:
        return
    closing = ExitStack()

    def begin(**_: Any) -> None:
        try:
            closing.push(start(app, settings, state_of(app).listeners, "embed-star-worker"))
        except ConfigError as error:
            raise SystemExit(f"embed-star: {error}") from None

    def close(**_: Any) -> None:
        closing.close()

    on(signals.worker_init, app, begin)
    on(signals.worker_shutdown, app, close)
    on(signals.worker_process_shutdown, app, close)


def start(app: Celery, settings: Settings, listeners: Listeners, service: str) -> ExitStack:
    """Trace this process until the result is closed; does nothing without an endpoint.

    Raises ConfigError when the packages of the extra `tracing` are missing.
    """
    stack = ExitStack()
    if settings.tracing_endpoint:
        try:
            from embed_star.observe.tracing import Tracing
        except ImportError:
            raise ConfigError(
                "TRACING_ENDPOINT needs the extra `tracing`: pip install 'embed-star[tracing]'"
            ) from None
        tracing = Tracing(settings.tracing_endpoint, settings.tracing_sample_ratio, service)
        listeners.add(tracing)
        _Messages(app, tracing).connect()
        stack.callback(tracing.close)
    return stack


class _Messages:
    """Writes the context into messages, and makes a span of each task that has one."""

    def __init__(self, app: Celery, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing
        self._running: dict[str, tuple[ExitStack, Any]] = {}

    def connect(self) -> None:
        signals.before_task_publish.connect(self.note_context, weak=False)
        signals.task_prerun.connect(self.begin, weak=False)
        signals.task_postrun.connect(self.end, weak=False)

    def note_context(self, headers: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the context into a message of a run. The chord's body and retries have it, too."""
        if headers is None or "run_id" not in headers:
            return
        if traceparent := self._tracing.traceparent(headers["run_id"]):
            headers[_TRACEPARENT] = traceparent

    def begin(self, task_id: str, task: Any, **_: Any) -> None:
        headers = task.request.headers or {}
        traceparent = headers.get(_TRACEPARENT)
        if not isinstance(traceparent, str) or task.app is not self._app:
            return
        attributes = {name: str(headers[name]) for name in _SHOWN if name in headers}
        stack = ExitStack()
        span = stack.enter_context(
            self._tracing.task(
                task.name.rpartition(".")[2],
                traceparent,
                {**attributes, "task_id": task_id, "retries": task.request.retries},
            )
        )
        self._running[task_id] = (stack, span)
        # `ServiceTask.before_start`, which comes next, binds them to the log lines.
        task.request.trace_ids = self._tracing.log_ids(span)

    def end(self, task_id: str, state: str | None = None, **_: Any) -> None:
        if running := self._running.pop(task_id, None):
            stack, span = running
            span.set_attribute("state", str(state))
            stack.close()
