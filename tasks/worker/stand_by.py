"""Stops a worker from taking messages while its embedding space is retired.

The messages in the queues are then for workers with other settings, and each requeue by
this worker would delay them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery, signals

from embed_star.errors import EmbedStarError
from embed_star.events import ignore_event
from embed_star.produce import unexpected_errors
from embed_star.store.tables.space_watch import EVERY_S
from tasks.base import state_of
from tasks.worker.signals import on

log = structlog.get_logger(__name__)

JOIN_S = 5.0


def connect(app: Celery, queues: Sequence[str]) -> None:
    """Watch the space of the workers of `app`, in the process that consumes `queues`."""
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def begin(sender: Any, **_: Any) -> None:
        watch = threading.Thread(target=_watch, args=(app, sender, queues, stopped), daemon=True)
        threads.append(watch)
        watch.start()

    def end(**_: Any) -> None:
        stopped.set()
        for thread in threads:
            thread.join(JOIN_S)

    on(signals.worker_ready, app, begin)
    on(signals.worker_shutting_down, app, lambda **_: stopped.set())
    on(signals.worker_shutdown, app, end)


def _watch(app: Celery, consumer: Any, queues: Sequence[str], stopped: threading.Event) -> None:
    """Deselect and select `queues` with the space's state.

    An error that nobody expected is waited out, too: the next look may not meet it.
    """
    taken: list[str] = []
    while not stopped.wait(EVERY_S):
        try:
            taken = _follow(app, consumer, queues, taken)
        except EmbedStarError:
            continue  # the tasks log it
        except Exception as error:  # noqa: BLE001 - see above
            unexpected_errors.report(error, "stand_by", EVERY_S, ignore_event)


def _follow(app: Celery, consumer: Any, queues: Sequence[str], taken: list[str]) -> list[str]:
    """Look once; the queues that are deselected then, which were `taken` before.

    Celery's `consumer` may be changed in its own thread only; `call_soon` does that.
    """
    retired = state_of(app).services.store.space_watch.is_retired(at_once=True)
    if retired and not taken:
        taken = [name for name in queues if name in consumer.app.amqp.queues.consume_from]
        log.warning("takes_no_messages", queues=taken)
        for name in taken:
            consumer.call_soon(_leave, consumer, name)
    elif taken and not retired:
        log.info("takes_messages_again", queues=taken)
        for name in taken:
            consumer.call_soon(_take, consumer, name)
        taken = []
    return taken


def _leave(consumer: Any, queue: str) -> None:
    """Stop consuming `queue`; while there is no connection, leave it out of the next one."""
    consumer.app.amqp.queues.deselect(queue)
    if consumer.task_consumer is not None:
        consumer.cancel_task_queue(queue)


def _take(consumer: Any, queue: str) -> None:
    queues = consumer.app.amqp.queues
    queues.select_add(queues[queue])
    if consumer.task_consumer is not None:
        consumer.add_task_queue(queue)
