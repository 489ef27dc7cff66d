"""How many messages a worker has at once: with threads, a few more than calls to the provider."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation

from embed_star.events import ConcurrencyChanged, Event
from embed_star.settings import Settings
from tasks.base import state_of
from tasks.workarounds.thread_slots import ThreadPool
from tasks.worker.signals import on

SPARE_THREADS = 2
"""Threads beyond the calls: they load and write rows while others call the provider."""

UNDECIDED = "auto"
"""Celery's word for a number that is not chosen yet. A number of `-c` takes its place."""


def slots(settings: Settings) -> int | str:
    """The slots of a worker, for Celery's settings."""
    if settings.first_calls < settings.most_calls:
        return UNDECIDED
    return settings.first_calls + SPARE_THREADS


def connect(app: Celery, settings: Settings) -> None:
    """Let the slots of the workers of `app` follow their calls, where the number of calls adapts.

    To be connected after `options`, which chooses the pool.
    """
    if settings.first_calls < settings.most_calls:
        on(signals.worker_init, app, _decide)
        app.steps["worker"].add(_Following)


def _decide(sender: Any, **_: Any) -> None:
    """Choose the size of the pool. Threads that idle cost nothing; processes cost 100 MB each, and
    have one call at a time."""
    if sender.concurrency == UNDECIDED:
        settings = state_of(sender.app).settings
        is_threads = issubclass(get_implementation(sender.pool_cls), ThreadPool)
        calls = settings.most_calls if is_threads else settings.first_calls
        sender.concurrency = calls + SPARE_THREADS


class _Following(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Takes no more messages than there are calls for them to wait for.

    The others stay in the queue, for another worker: here their locks and their patience would
    run out. `worker_disable_prefetch` heeds `max_concurrency`, and nothing else does by then.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        if not isinstance(parent.pool, ThreadPool):
            return

        def follow(event: Event) -> None:
            if isinstance(event, ConcurrencyChanged):
                wanted = event.calls + SPARE_THREADS
                parent.max_concurrency = min(wanted, parent.pool.num_processes)

        state = state_of(parent.app)
        follow(ConcurrencyChanged(state.settings.first_calls))
        state.listeners.add(follow)
