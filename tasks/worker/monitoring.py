"""Metrics and probes of workers and beat, on Celery's signals and bootsteps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.concurrency.solo import TaskPool as SoloPool
from prometheus_client import CollectorRegistry, Gauge

from embed_star import timings
from embed_star.coordination.queues import ENQUEUED_AT
from embed_star.errors import ConfigError
from embed_star.events import TaskPutOff
from embed_star.observe.health import Heartbeat
from embed_star.observe.metrics import PREFIX, CallMetrics, DispatchMetrics, RowMetrics
from embed_star.observe.multiprocess import SharedFiles
from embed_star.observe.process import BeforeScrape, PoolMetrics
from embed_star.observe.server import MonitoringServer
from embed_star.services import Services, monitoring
from embed_star.settings import Settings
from tasks.base import state_of
from tasks.worker.logs import refusal
from tasks.worker.pool_slots import Slots, begun
from tasks.worker.signals import on

_TICK_S = 1.0


def connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of `app`'s processes; after `lifecycle`, which checks first."""
    # Names no app; connecting twice changes nothing.
    signals.before_task_publish.connect(_note_when_sent, weak=False)
    if not settings.monitoring_port:
        return
    worker = WorkerMonitoring(app, settings)
    on(signals.worker_init, app, _or_exit(worker.prepare))
    on(signals.worker_process_init, app, worker.in_child)
    on(signals.task_retry, app, worker.count_retry)
    on(signals.task_postrun, app, worker.after_task)
    on(signals.worker_shutdown, app, worker.close)
    app.steps["worker"].add(_serving_step(worker))
    app.steps["consumer"].add(_heartbeat_step(worker))

    def beat_begins(**_: Any) -> None:
        if worker.listens:
            return  # `worker -B`: the worker has the port, and it watches this process
        state = state_of(app)
        # Beat's loop sleeps for up to that interval when nothing is due.
        timeout_s = timings.LIVENESS_TIMEOUT_S + app.conf.beat_max_loop_interval
        state.beat_heartbeat = Heartbeat(timeout_s)
        monitoring.bind_beat_server(state.services, state.beat_heartbeat).serve()

    on(signals.beat_init, app, _or_exit(beat_begins))


class WorkerMonitoring:
    """One worker: its main process, and with `-P processes` its children as well."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._state = state_of(app)
        self._settings = settings
        self._files: SharedFiles | None = None
        self._server: MonitoringServer | None = None
        self._pool: PoolMetrics | None = None
        self._main_pid = os.getpid()
        self.consumer = Heartbeat(timings.LIVENESS_TIMEOUT_S)
        self.slots = Slots(settings.visibility_timeout_s)
        self.beat: Any = None
        self.children: Callable[[], list[int]] = list

    @property
    def listens(self) -> bool:
        """Whether this process, or its parent, has the port of a worker."""
        return self._server is not None

    def prepare(self, sender: Any, **_: Any) -> None:
        """Make the metrics and take the port, before there is a pool. Raises ConfigError."""
        self._main_pid = os.getpid()
        services = self._state.services
        exposed = monitoring.process_registry(services)
        counted = exposed
        lost = Gauge(PREFIX + "slots_lost", "Slots that no task gives back", registry=exposed)
        lost.set_function(self.slots.lost)
        pool = get_implementation(sender.pool_cls)
        if issubclass(pool, SoloPool):  # its loop stands still during a task
            self.consumer = Heartbeat(self._settings.visibility_timeout_s)
        if issubclass(pool, ProcessPool):
            self._files = SharedFiles()
            exposed.register(self._files)
            counted = CollectorRegistry()  # the values are in the files
        else:
            exposed.register(BeforeScrape(self.sync_pool))
        self._make_metrics(counted, services)
        self._server = monitoring.make_server(
            services,
            exposed,
            self._stuck,
            {
                **monitoring.server_checks(services),
                "consumer": self._missing_consumer,
                "slots": self.slots.missing,
                "beat": self._missing_beat,
            },
        )
        self._server.bind(self._settings.monitoring_host, self._settings.monitoring_port)

    def serve(self) -> None:
        """Answer from now on. Only once the pool's children are forked: no thread runs before."""
        if self._server is not None:
            self._server.serve()

    def in_child(self, **_: Any) -> None:
        """Close the port in a forked child, and begin to show life. `-P solo` forks none."""
        if os.getpid() == self._main_pid:
            return
        if self._server is not None:
            self._server.forget()
        if self._files is not None:
            self._files.show_life()

    def tick(self) -> None:
        """Beat the consumer's heartbeat, every second.

        In the main thread of the main process. The same thread forks, so no child inherits a
        lock of the metrics in use.
        """
        self.consumer.beat()
        self.slots.look()
        if self._files is not None:
            self.sync_pool()

    def after_task(self, **_: Any) -> None:
        if os.getpid() != self._main_pid:
            self.sync_pool()

    def sync_pool(self) -> None:
        if self._pool is not None:
            self._pool.sync(self._state.services.store.database.pool.stats())

    def count_retry(self, sender: Any, **_: Any) -> None:
        self._state.listeners(TaskPutOff(sender.name))

    def close(self, **_: Any) -> None:
        if self._server is not None and os.getpid() == self._main_pid:
            self._server.close()
            if self._files is not None:
                self._files.remove()

    def _make_metrics(self, registry: CollectorRegistry, services: Services) -> None:
        listeners = self._state.listeners
        listeners.add(DispatchMetrics(registry))
        price = self._settings.dollars_per_million_tokens
        listeners.add(CallMetrics(registry, services.space, dollars_per_million_tokens=price))
        ours = [name for name in self._app.tasks if name.startswith("embed_star.")]
        listeners.add(RowMetrics(registry, ours))
        self._pool = PoolMetrics(registry)

    def _missing_consumer(self) -> dict[str, str]:
        resting = self.consumer.resting
        return {"consumer": "does not take tasks: not connected to Redis"} if resting else {}

    def _missing_beat(self) -> dict[str, str]:
        """Why the beat of `worker -B`, a process of its own, is missing."""
        ended = self.beat is not None and not self.beat.is_alive()
        return {"beat": "the beat of -B has ended; start the worker anew"} if ended else {}

    def _stuck(self) -> dict[str, str]:
        stuck = monitoring.stuck_loops(consumer=self.consumer) | self.slots.stuck()
        if self._files is not None:
            for pid, silent_s in self._files.silent_s(self.children()).items():
                if silent_s > timings.LIVENESS_TIMEOUT_S:
                    stuck[f"child {pid}"] = f"has shown no life for {silent_s:.0f} s"
        longest_s = max((time.time() - began for began in begun()), default=0.0)
        if longest_s > self._settings.visibility_timeout_s:
            stuck["task"] = f"has been running for {longest_s:.0f} s"
        return stuck


def _note_when_sent(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers[ENQUEUED_AT] = time.time()


def _or_exit(receiver: Callable[..., None]) -> Callable[..., None]:
    """A receiver that ends the starting process with one line after a ConfigError."""

    def receive(**given: Any) -> None:
        try:
            receiver(**given)
        except ConfigError as error:
            raise refusal(error) from None

    return receive


def _serving_step(worker: WorkerMonitoring) -> type:
    class Serving(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            worker.children = lambda: _pids(parent.pool)
            worker.slots.watch(parent)
            worker.beat = parent.beat
            worker.serve()

    return Serving


def _heartbeat_step(worker: WorkerMonitoring) -> type:
    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """The consumer's heartbeat beats while there is a connection, and rests otherwise."""

        requires = ("celery.worker.consumer.tasks:Tasks",)
        _ticking: Any = None

        def start(self, parent: Any) -> None:
            worker.tick()
            self._ticking = parent.timer.call_repeatedly(_TICK_S, worker.tick)

        def stop(self, parent: Any) -> None:
            del parent
            worker.consumer.rest()
            if self._ticking is not None:  # there was a connection
                self._ticking.cancel()

        shutdown = stop

    return Beating


def _pids(pool: Any) -> list[int]:
    return [pid for pid in (pool.info or {}).get("processes", ()) if pid != os.getpid()]
