"""The base of all tasks: services of the process, and the ids in every log line."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar

import structlog
from celery import Celery, Task

from embed_star.services import Services
from embed_star.settings import Settings

_making = threading.Lock()


class ServiceTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task with `services`: one set for each process, made in it, not before a fork."""

    _settings: ClassVar[dict[int, Settings]] = {}
    _services: ClassVar[dict[tuple[int, int], Services]] = {}

    @classmethod
    def bind_settings(cls, app: Celery, settings: Settings) -> None:
        """Say which settings the tasks of `app` go by."""
        cls._settings[id(app)] = settings

    @classmethod
    def services_of(cls, app: Celery) -> Services:
        """The services of `app` in this process."""
        # Also the pid: a forked child must not use its parent's connections.
        owner = (id(app), os.getpid())
        with _making:
            if owner not in cls._services:
                cls._services[owner] = Services(cls._settings[id(app)])
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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run with the task's ids bound to every log line."""
        ids = {
            name: value
            for name in ("run_id", "correlation_id")
            if (value := (self.request.headers or {}).get(name) or kwargs.get(name))
        }
        with structlog.contextvars.bound_contextvars(
            task=self.name, task_id=self.request.id, retries=self.request.retries, **ids
        ):
            return super().__call__(*args, **kwargs)
