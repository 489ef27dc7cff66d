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

from embed_star import monitoring, timings
from embed_star.coordination.queues import ENQUEUED_AT
from embed_star.errors import ConfigError
from embed_star.events import TaskPutOff
from embed_star.observe.health import Heartbeat
from embed_star.observe.metrics import PREFIX, CallMetrics, DispatchMetrics, RowMetrics
from embed_star.observe.multiprocess import SharedFiles
from embed_star.observe.process import BeforeScrape, PoolMetrics
from embed_star.observe.server import MonitoringServer
from embed_star.services import Services
from embed_star.settings import Settings
from tasks.base import ServiceTask
from tasks.scheduler import Scheduler
from tasks.worker.logs import refusal
from tasks.worker.pool_slots import Slots, begun

_TICK_S = 1.0


def connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of `app`'s processes; after `lifecycle`, which checks first."""
    signals.before_task_publish.connect(_note_when_sent, weak=False)
    if not settings.monitoring_port:
        return
    worker = WorkerMonitoring(app, settings)
    signals.worker_init.connect(_or_exit(worker.prepare), weak=False)
    signals.worker_process_init.connect(worker.in_child, weak=False)
    signals.task_retry.connect(worker.count_retry, weak=False)
    signals.task_postrun.connect(worker.after_task, weak=False)
    signals.worker_shutdown.connect(worker.close, weak=False)
    app.steps["worker"].add(_serving_step(worker))
    app.steps["consumer"].add(_pulse_step(worker))

    def beat_begins(**_: Any) -> None:
        if worker.listens:
            return  # `worker -B`: the port is the worker's, who watches over this process
        services = ServiceTask.services_of(app)
        # Its loop sleeps for so long when nothing is due.
        Scheduler.heartbeat = Heartbeat(
            timings.LIVENESS_TIMEOUT_S + app.conf.beat_max_loop_interval
        )
        monitoring.of_beat(services, Scheduler.heartbeat).serve()

    signals.beat_init.connect(_or_exit(beat_begins), weak=False)


class WorkerMonitoring:
    """One worker: its main process, and with `-P processes` its children as well."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._files: SharedFiles | None = None
        self._server: MonitoringServer | None = None
        self._pool: PoolMetrics | None = None
        self._services: Services | None = None
        self._main_pid = os.getpid()
        self.consumer = Heartbeat(timings.LIVENESS_TIMEOUT_S)
        self.slots = Slots(settings.visibility_timeout_s)
        self.beat: Any = None
        self.children: Callable[[], list[int]] = list

    @property
    def listens(self) -> bool:
        """Whether this process, or the one that forked it, has the port of a worker."""
        return self._server is not None

    def prepare(self, sender: Any, **_: Any) -> None:
        """Before the pool is there: metrics, and the port. Raises ConfigError."""
        self._main_pid = os.getpid()
        self._services = services = ServiceTask.services_of(self._app)
        exposed = monitoring.process_registry(services)
        counted = exposed
        lost = Gauge(PREFIX + "slots_lost", "Slots that no task gives back", registry=exposed)
        lost.set_function(self.slots.lost)
        pool = get_implementation(sender.pool_cls)
        if issubclass(pool, SoloPool):  # its loop does not move during a task
            self.consumer = Heartbeat(self._settings.visibility_timeout_s)
        if issubclass(pool, ProcessPool):
            self._files = SharedFiles()
            exposed.register(self._files)
            counted = CollectorRegistry()  # the values are in the files
        else:
            exposed.register(BeforeScrape(self.sync_pool))
        self._make_metrics(counted, services)
        self._server = monitoring.server_of(
            services,
            exposed,
            self._stuck,
            {
                **monitoring.both_servers(services),
                "consumer": self._missing_consumer,
                "slots": self.slots.missing,
                "beat": self._missing_beat,
            },
        )
        self._server.bind(self._settings.monitoring_host, self._settings.monitoring_port)

    def serve(self) -> None:
        """With the pool there: no child is forked beside a thread that answers."""
        if self._server is not None:
            self._server.serve()

    def in_child(self, **_: Any) -> None:
        """A child has been forked; with `-P solo` there is none."""
        if os.getpid() == self._main_pid:
            return
        if self._server is not None:
            self._server.forget()
        if self._files is not None:
            self._files.show_life()

    def tick(self) -> None:
        """The consumer's loop moves. In the main process' main thread, which is the one that
        forks: so no child finds a lock of the metrics taken."""
        self.consumer.beat()
        self.slots.look()
        if self._files is not None:
            self.sync_pool()

    def after_task(self, **_: Any) -> None:
        if os.getpid() != self._main_pid:
            self.sync_pool()

    def sync_pool(self) -> None:
        if self._pool is not None:
            services = ServiceTask.services_of(self._app)
            self._pool.sync(services.store.database.pool.stats())

    def count_retry(self, sender: Any, **_: Any) -> None:
        ServiceTask.listeners_of(self._app)(TaskPutOff(sender.name))

    def close(self, **_: Any) -> None:
        if self._server is not None and os.getpid() == self._main_pid:
            self._server.close()
            if self._files is not None:
                self._files.remove()

    def _make_metrics(self, registry: CollectorRegistry, services: Services) -> None:
        listeners = ServiceTask.listeners_of(self._app)
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
        """Of `worker -B`, whose beat is a process of its own."""
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
    """A port that is taken ends the process with one line, while it starts."""

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


def _pulse_step(worker: WorkerMonitoring) -> type:
    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Between the connection's being there and its loss."""

        requires = ("celery.worker.consumer.tasks:Tasks",)
        _ticking: Any = None

        def start(self, parent: Any) -> None:
            worker.tick()
            self._ticking = parent.timer.call_repeatedly(_TICK_S, worker.tick)

        def stop(self, parent: Any) -> None:
            del parent
            worker.consumer.rest()
            if self._ticking is not None:  # it has been connected
                self._ticking.cancel()

        shutdown = stop

    return Beating


def _pids(pool: Any) -> list[int]:
    return [pid for pid in (pool.info or {}).get("processes", ()) if pid != os.getpid()]
