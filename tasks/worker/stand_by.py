"""A worker whose space is retired takes no messages until it is active again.

Those in the queues are for workers with other settings, which would get them later for
each time that this one puts them back.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery, signals

from embed_star.errors import EmbedStarError
from embed_star.store.tables.space_watch import EVERY_S
from tasks.base import ServiceTask

log = structlog.get_logger(__name__)

STOPS_S = 5.0


def connect(app: Celery, queues: Sequence[str]) -> None:
    """Watch over the workers of `app`: in the process that consumes, whatever its pool."""
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def begin(sender: Any, **_: Any) -> None:
        watch = threading.Thread(target=_watch, args=(app, sender, queues, stopped), daemon=True)
        threads.append(watch)
        watch.start()

    def end(**_: Any) -> None:
        stopped.set()
        for thread in threads:
            thread.join(STOPS_S)

    signals.worker_ready.connect(begin, weak=False)
    signals.worker_shutting_down.connect(lambda **_: stopped.set(), weak=False)
    signals.worker_shutdown.connect(end, weak=False)


def _watch(app: Celery, consumer: Any, queues: Sequence[str], stopped: threading.Event) -> None:
    """`consumer` is Celery's; it may be told what to do from its own thread only."""
    taken: list[str] = []
    while not stopped.wait(EVERY_S):
        try:
            retired = ServiceTask.services_of(app).store.space_watch.is_retired(at_once=True)
        except EmbedStarError:
            continue  # the tasks say so
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


def _leave(consumer: Any, queue: str) -> None:
    """Without a connection, the next one is made without the queue."""
    consumer.app.amqp.queues.deselect(queue)
    if consumer.task_consumer is not None:
        consumer.cancel_task_queue(queue)


def _take(consumer: Any, queue: str) -> None:
    queues = consumer.app.amqp.queues
    queues.select_add(queues[queue])
    if consumer.task_consumer is not None:
        consumer.add_task_queue(queue)
