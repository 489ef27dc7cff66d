"""How a worker stops: no new task, what runs may finish, the rest is another worker's at once.

Celery's own soft shutdown does not fit: it sleeps through the whole time-out, in a signal
handler, and then cancels tasks, which threads cannot be. Its warm shutdown does, once the
tasks' own waits and calls end in time: `Shutdown` sees to that, here in every process of the
pool. Celery then acknowledges what has ended, and what has not goes back into its queue.
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
from tasks.base import ServiceTask
from tasks.workarounds.redis_restart import Channel

log = structlog.get_logger(__name__)

BEGIN, OVER = signal.SIGUSR2, signal.SIGALRM
"""What a worker tells the children of its pool: to stop, and that the grace is over."""

CHILD_END_S = 1.0
"""What a child of the pool sleeps at its end, in billiard 4.3."""

_RESTORE_S = 0.5


def connect(app: Celery) -> None:
    """Make the workers of `app` stop so."""
    app.steps["worker"].add(Stopping)
    app.steps["consumer"].add(HandingBack)

    parent = os.getpid()

    def listen(**_: Any) -> None:
        """In a child of the pool: its parent says when."""
        if os.getpid() == parent:
            return  # `-P solo`, which has none
        services = ServiceTask.services_of(app)
        # Blocked in all threads, and waited for in one of them: a handler would have to
        # wait for the main thread, which is in the middle of a task.
        signal.pthread_sigmask(signal.SIG_BLOCK, {BEGIN, OVER})
        services.grace.watch(on_over=services.abort_calls)
        threading.Thread(target=_obey, args=(services.grace,), daemon=True).start()

    signals.worker_process_init.connect(listen, weak=False)


def _obey(grace: Shutdown) -> None:
    """Pass on what the parent says."""
    while signal.sigwait({BEGIN, OVER}) == BEGIN:
        grace.request()
    if not grace.begun:
        grace.request()
    grace.request()


class Stopping(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """SIGTERM and SIGINT begin the shutdown; SIGQUIT, or a second one, ends the grace."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Take the signals over from Celery, which has just set them."""
        services = ServiceTask.services_of(worker.app)
        grace, owner = services.grace, os.getpid()

        def stop(number: int, _: FrameType | None) -> None:
            if os.getpid() != owner:
                return  # a child of the pool, which has inherited this
            if number == signal.SIGQUIT:
                grace.request()
            grace.request()
            state.should_stop = os.EX_OK

        end_s = END_S + (CHILD_END_S if _children(worker) else 0.0)

        def over() -> None:
            # By the kernel, should Python itself hang at its end. Its default is to kill.
            signal.setitimer(signal.ITIMER_REAL, end_s + 1.2 * _RESTORE_S)
            _tell(worker, OVER)
            services.abort_calls()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, stop)
        signal.signal(BEGIN, signal.SIG_IGN)  # until a child listens
        grace.watch(
            on_begin=lambda: _tell(worker, BEGIN),
            on_over=over,
            on_end=lambda: _end(worker),
            end_s=end_s,
        )


class HandingBack(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Puts what the worker holds and has not begun back into the queues when it stops.

    Celery would do that only after the last task has ended.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def stop(self, consumer: Any) -> None:
        if state.should_stop is None or consumer.task_consumer is None:
            return  # a lost connection, which is made again
        try:
            log.info("messages_handed_back", messages=_hand_back(consumer))
        except consumer.connection_errors as error:  # after VISIBILITY_TIMEOUT_S, then
            log.warning("messages_not_handed_back", reason=str(error)[:160])


def _hand_back(consumer: Any) -> int:
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
    """Requests that wait for their time, or for the worker's own rate limit."""
    yield from list(state.scheduled_requests)
    for bucket in consumer.task_buckets.values():
        if bucket is not None:
            yield from (request for request, _ in list(bucket.contents))


def _children(worker: Any) -> list[int]:
    """Process ids of the pool; none of a pool of threads, or without a pool."""
    return [pid for pid in worker.pool.info.get("processes", ()) if pid != os.getpid()]


def _tell(worker: Any, number: signal.Signals) -> None:
    for pid in _children(worker):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _end(worker: Any) -> None:
    """Whatever hangs: hand back what is not acknowledged, and end."""
    log.error("shutdown_forced")
    restoring = threading.Thread(target=_restore, args=(worker,), daemon=True)
    restoring.start()
    restoring.join(_RESTORE_S)
    _tell(worker, signal.SIGKILL)
    os._exit(os.EX_TEMPFAIL)


def _restore(worker: Any) -> None:
    if worker.consumer.task_consumer is not None:
        worker.consumer.task_consumer.channel.qos.restore_unacked()
