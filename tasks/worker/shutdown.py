"""The shutdown of a worker: it begins no task, running tasks may finish, the rest is requeued.

Celery's soft shutdown does not fit: it sleeps through its whole time-out in a signal handler
and then cancels tasks, and threads cannot be cancelled. Its warm shutdown does fit, as long
as tasks end in time. `Shutdown` ends their waits and calls, in every process of the pool.
Celery then acknowledges the tasks that have ended and requeues the others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
from celery import Celery, bootsteps, signals
from celery.worker import state

from embed_star.shutdown import END_S, Shutdown
from tasks.base import state_of
from tasks.transport import Channel
from tasks.worker.signals import on

log = structlog.get_logger(__name__)

BEGIN, OVER = signal.SIGUSR2, signal.SIGALRM
"""Signals of a worker to the children of its pool: shut down; the time for it is over."""

CHILD_END_S = 1.0
"""A child of the pool sleeps this long at its end, in billiard 4.3."""

_RESTORE_S = 0.5


def connect(app: Celery) -> None:
    """Shut the workers of `app` down in this way."""
    app.steps["worker"].add(ShutdownStep)
    app.steps["consumer"].add(RequeueStep)

    parent = os.getpid()

    def listen(**_: Any) -> None:
        """Wait for the parent's signals, in a child of the pool."""
        if os.getpid() == parent:
            return  # `-P solo`, which has none
        services = state_of(app).services
        # Blocked in all threads, and waited for in one of them: a handler runs in the main
        # thread, which is in the middle of a task.
        signal.pthread_sigmask(signal.SIG_BLOCK, {BEGIN, OVER})
        services.shutdown.watch(on_over=services.abort_calls)
        threading.Thread(target=_obey, args=(services.shutdown,), daemon=True).start()

    on(signals.worker_process_init, app, listen)


def _obey(shutdown: Shutdown) -> None:
    """Pass the parent's signals on to the shutdown of this process."""
    while signal.sigwait({BEGIN, OVER}) == BEGIN:
        shutdown.request()
    if not shutdown.begun:
        shutdown.request()
    shutdown.request()


class ShutdownStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """SIGTERM and SIGINT begin the shutdown; SIGQUIT, or a second signal, ends its grace time."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Take the signals over from Celery, which has just set them."""
        services = state_of(worker.app).services
        shutdown, owner = services.shutdown, os.getpid()

        def stop(number: int, _: FrameType | None) -> None:
            if os.getpid() != owner:
                return  # a child of the pool, which has inherited this
            if number == signal.SIGQUIT:
                shutdown.request()
            shutdown.request()
            state.should_stop = os.EX_OK

        end_s = END_S + (CHILD_END_S if _children(worker) else 0.0)

        def over() -> None:
            # SIGALRM kills the process if Python itself hangs at its end.
            signal.setitimer(signal.ITIMER_REAL, end_s + 1.2 * _RESTORE_S)
            _tell(worker, OVER)
            services.abort_calls()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, stop)
        signal.signal(BEGIN, signal.SIG_IGN)  # until a child listens
        shutdown.watch(
            on_begin=lambda: _tell(worker, BEGIN),
            on_over=over,
            on_end=lambda: _end(worker),
            end_s=end_s,
        )


class RequeueStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Requeues at once the messages that the worker holds and has not begun.

    Celery would requeue them only after the last task has ended.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def stop(self, consumer: Any) -> None:
        if state.should_stop is None or consumer.task_consumer is None:
            return  # the connection is lost, and Celery makes another one
        try:
            log.info("messages_handed_back", messages=_requeue_waiting(consumer))
        except consumer.connection_errors as error:  # Redis does it after VISIBILITY_TIMEOUT_S
            log.warning("messages_not_handed_back", reason=str(error)[:160])


def _requeue_waiting(consumer: Any) -> int:
    consumer.task_consumer.cancel()
    channel = consumer.task_consumer.channel
    if isinstance(channel, Channel):
        channel.finish_poll()
    waiting = list(_not_begun(consumer))
    for request in waiting:
        request.message.reject(requeue=True)
        request.acknowledged = True
    return len(waiting)


def _not_begun(consumer: Any) -> Iterator[Any]:
    """The requests that wait for their ETA, or for the worker's own rate limit."""
    yield from list(state.scheduled_requests)
    for bucket in consumer.task_buckets.values():
        if bucket is not None:
            yield from (request for request, _ in list(bucket.contents))


def _children(worker: Any) -> list[int]:
    """Process ids of the pool's children; a pool of threads has none."""
    return [pid for pid in worker.pool.info.get("processes", ()) if pid != os.getpid()]


def _tell(worker: Any, number: signal.Signals) -> None:
    for pid in _children(worker):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _end(worker: Any) -> None:
    """End by force: requeue the unacknowledged messages, kill the children, exit."""
    log.error("shutdown_forced")
    restoring = threading.Thread(target=_restore, args=(worker,), daemon=True)
    restoring.start()
    restoring.join(_RESTORE_S)
    _tell(worker, signal.SIGKILL)
    os._exit(os.EX_TEMPFAIL)


def _restore(worker: Any) -> None:
    if worker.consumer.task_consumer is not None:
        worker.consumer.task_consumer.channel.qos.restore_unacked()
