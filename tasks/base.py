"""The base of all tasks: services of the process, and the ids in every log line."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar

import structlog
from celery import Celery, Task

from embed_star.errors import TransientError
from embed_star.events import Listeners
from embed_star.services import Services
from embed_star.settings import Settings
from embed_star.timings import RETRY_BACKOFF_S

_making = threading.Lock()


SHOWN_CHARS = 120
"""Of a task's arguments or result in a log line; outcomes of 100 rows run to kilobytes."""


def retries(settings: Settings) -> dict[str, Any]:
    """Options of a task that tries again on transient errors, backing off with jitter."""
    return {
        "autoretry_for": (TransientError,),
        "max_retries": settings.retry_max,
        "retry_backoff": RETRY_BACKOFF_S,
        "retry_backoff_max": settings.timings.retry_backoff_max_s,
        "retry_jitter": True,
    }


class ServiceTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task with `services`: one set for each process, made in it, not before a fork."""

    resultrepr_maxsize = SHOWN_CHARS

    _settings: ClassVar[dict[int, Settings]] = {}
    _listeners: ClassVar[dict[int, Listeners]] = {}
    _services: ClassVar[dict[tuple[int, int], Services]] = {}

    @classmethod
    def bind_settings(cls, app: Celery, settings: Settings) -> None:
        """Say which settings the tasks of `app` go by."""
        cls._settings[id(app)] = settings
        cls._listeners[id(app)] = Listeners()

    @classmethod
    def listeners_of(cls, app: Celery) -> Listeners:
        """Who is told of what the services of `app` do; children have their parent's."""
        return cls._listeners[id(app)]

    @classmethod
    def services_of(cls, app: Celery) -> Services:
        """The services of `app` in this process."""
        # Also the pid: a forked child must not use its parent's connections.
        owner = (id(app), os.getpid())
        with _making:
            if owner not in cls._services:
                made = Services(cls._settings[id(app)], cls._listeners[id(app)])
                for (other, _), parent in cls._services.items():  # of before the fork
                    if other == id(app) and "installation" in parent.__dict__:
                        made.installation = parent.installation
                cls._services[owner] = made
            return cls._services[owner]

    @classmethod
    def close_services(cls, app: Celery) -> None:
        """Close this process' services; the next use makes new ones."""
        with _making:
            services = cls._services.pop((id(app), os.getpid()), None)
        if services is not None:
            services.close()

    @property
    def services(self) -> Services:
        return self.services_of(self.app)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Bind the task's ids to every log line, Celery's about its end among them.

        `lifecycle` unbinds them after the task: Celery logs a retry outside of the call.
        """
        # Not from the headers alone: Celery keeps `correlation_id` for itself there.
        message = args[0] if args and isinstance(args[0], dict) else {}
        known = {**message, **(self.request.headers or {}), **kwargs}
        ids = {name: known[name] for name in ("run_id", "correlation_id") if name in known}
        ids |= getattr(self.request, "trace_ids", None) or {}
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            task=self.name, task_id=task_id, retries=self.request.retries, **ids
        )
