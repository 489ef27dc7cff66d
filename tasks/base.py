"""The base class of all tasks, and the state that the Celery app holds for them."""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import structlog
from celery import Celery, Task

from embed_star.errors import TransientError
from embed_star.events import Listeners
from embed_star.observe.health import Heartbeat
from embed_star.services import Services
from embed_star.settings import Settings
from embed_star.timings import RETRY_BACKOFF_S

SHOWN_CHARS = 120
"""A log line shows this much of a task's arguments or result; outcomes of 100 rows are
kilobytes."""


def retries(settings: Settings) -> dict[str, Any]:
    """Options of a task that retries on transient errors, with backoff and jitter."""
    return {
        "autoretry_for": (TransientError,),
        "max_retries": settings.retry_max,
        "retry_backoff": RETRY_BACKOFF_S,
        "retry_backoff_max": settings.timings.retry_backoff_max_s,
        "retry_jitter": True,
    }


class AppState:
    """Settings, listeners, services and beat's heartbeat of one app. Thread-safe.

    It is an attribute of the app, so two apps in one process share nothing. A forked child
    inherits it and makes services of its own: it must not use its parent's connections.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.listeners = Listeners()
        """They receive the events of all services of this app; children keep their parent's."""
        self.beat_heartbeat = Heartbeat(math.inf)
        """Beat's scheduler beats it; monitoring replaces it by one with a timeout."""
        self._making = threading.Lock()
        self._services: dict[int, Services] = {}
        """By process id. A parent's services stay here, so that no child closes them."""

    @property
    def services(self) -> Services:
        """The services of this process, made on first use. Nothing connects yet."""
        pid = os.getpid()
        with self._making:
            if pid not in self._services:
                made = Services(self.settings, self.listeners)
                for parent in self._services.values():
                    if "installation" in parent.__dict__:
                        made.installation = parent.installation
                self._services[pid] = made
            return self._services[pid]

    def close_services(self) -> None:
        """Close the services of this process; the next use makes new ones."""
        with self._making:
            services = self._services.pop(os.getpid(), None)
        if services is not None:
            services.close()


def attach_state(app: Celery, settings: Settings) -> AppState:
    """Give `app` its state. Once for each app, before anything is connected to it."""
    state = app.embed_star = AppState(settings)
    return state


def state_of(app: Celery) -> AppState:
    """The state that `attach_state` gave to `app`."""
    state: AppState = app.embed_star
    return state


class ServiceTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task with the services of its app, and with its ids in every log line."""

    resultrepr_maxsize = SHOWN_CHARS

    @property
    def services(self) -> Services:
        """The services of this process."""
        return state_of(self.app).services

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Bind the task's ids to every log line, also to Celery's lines about its end.

        `lifecycle` unbinds them after the task, because Celery logs a retry outside of the
        call. Example: `run_id` and `correlation_id` of an `embed_batch` are in its message.
        """
        # The headers alone do not do: Celery uses `correlation_id` there for itself.
        message = args[0] if args and isinstance(args[0], dict) else {}
        known = {**message, **(self.request.headers or {}), **kwargs}
        ids = {name: known[name] for name in ("run_id", "correlation_id") if name in known}
        ids |= getattr(self.request, "trace_ids", None) or {}
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            task=self.name, task_id=task_id, retries=self.request.retries, **ids
        )
