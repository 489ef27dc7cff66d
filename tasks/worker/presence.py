"""A worker says that it lives, and which runs it works on, so that its end is noticed soon."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any
from uuid import uuid4

import structlog
from celery import Celery, signals
from celery.worker import state

from embed_star.errors import EmbedStarError
from embed_star.events import ignore_event
from embed_star.produce import unexpected_errors
from embed_star.timings import BEAT_S
from tasks.base import state_of
from tasks.worker.signals import on

log = structlog.get_logger(__name__)

JOIN_S = 5.0


def connect(app: Celery) -> None:
    """Let the workers of `app` beat, in the process that takes messages."""
    stopped = threading.Event()
    threads: list[threading.Thread] = []
    name = uuid4().hex

    def hold(**_: Any) -> None:
        options = app.conf.broker_transport_options
        app.conf.broker_transport_options = {**options, "holder": name}  # before it connects

    def begin(**_: Any) -> None:
        thread = threading.Thread(target=_beat, args=(app, name, stopped), daemon=True)
        threads.append(thread)
        thread.start()

    def end(**_: Any) -> None:
        """After the last message was acknowledged or handed back."""
        stopped.set()
        for thread in threads:
            thread.join(JOIN_S)
        if threads and not _requests():
            with suppress(EmbedStarError):
                state_of(app).services.workers.leave(name)

    on(signals.worker_init, app, hold)
    on(signals.worker_ready, app, begin)
    on(signals.worker_shutdown, app, end)


def _beat(app: Celery, name: str, stopped: threading.Event) -> None:
    """Beat until `stopped`. An error is waited out: the next beat may not meet it."""
    count = 0
    while not stopped.is_set():
        count += 1
        try:
            state_of(app).services.workers.beat(name, count, _runs())
        except EmbedStarError:
            pass  # Redis or the database is away; the tasks log it
        except Exception as error:  # noqa: BLE001 - see above
            unexpected_errors.report(error, "presence", BEAT_S, ignore_event)
        stopped.wait(BEAT_S)


def _runs() -> set[str]:
    """The runs of the messages that this worker holds: begun, waiting for a slot or for a time."""
    headers = [request.message.headers or {} for request in _requests()]
    return {one["run_id"] for one in headers if isinstance(one.get("run_id"), str)}


def _requests() -> list[Any]:
    while True:
        with suppress(RuntimeError):  # another thread changes the sets
            # After a loss of the connection, Celery forgets all but the active ones.
            return [
                *state.active_requests,
                *state.reserved_requests,
                *state.scheduled_requests,
            ]
