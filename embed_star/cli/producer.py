"""The process of the producer: its signals, its monitoring, its parts."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from embed_star.errors import ShuttingDown
from embed_star.events import Listeners
from embed_star.observe import logging as observe_logging
from embed_star.observe.health import Heartbeat
from embed_star.produce.leadership import Leadership
from embed_star.produce.notifier import Notifier
from embed_star.produce.producer import Producer, ProducerTimings
from embed_star.services import Services, monitoring
from embed_star.services.store import target_of
from embed_star.settings import Settings, load_settings, retired_names
from embed_star.store.client.connection import Connection
from embed_star.timings import POLL_INTERVAL_S

if TYPE_CHECKING:
    from tasks.dispatch import CeleryDispatcher

log = structlog.get_logger(__name__)


def run() -> None:
    """Find pending rows and enqueue them, until a signal stops it. Raises ConfigError."""
    settings = load_settings()
    # Not at the top: importing the app reads the settings.
    from embed_star.celery import app
    from tasks import tracing
    from tasks.dispatch import CeleryDispatcher

    observe_logging.configure(settings.log_level, settings.log_format)
    for name, advice in retired_names().items():
        log.warning("setting_retired", name=name, reason=advice)
    listeners = Listeners()
    with Services(settings, listeners) as services:
        dispatcher = CeleryDispatcher(app)
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        heartbeat = monitoring.producer_heartbeat(settings)
        running: list[Producer] = []  # one, once the database has told its names in Redis
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: services.shutdown.request())

        def stop() -> None:
            for producer in running:
                producer.stop()

        services.shutdown.watch(on_begin=stop, on_end=_end)
        with (
            suppress(ShuttingDown),
            tracing.start(app, settings, listeners, "embed-star-producer"),
            monitoring.monitor_producer(
                services, listeners, heartbeat, lambda: any(one.leading for one in running)
            ),
        ):
            services.await_ready(heartbeat.beat)
            running.append(_producer(services, dispatcher, heartbeat, owner))
            services.shutdown.check()
            running[0].run()


def _producer(
    services: Services, dispatcher: CeleryDispatcher, heartbeat: Heartbeat, owner: str
) -> Producer:
    settings = services.settings
    lost_work = services.lost_work

    def on_tick() -> None:
        heartbeat.beat()
        lost_work.look()

    return Producer(
        backlog=services.backlog(dispatcher, lost_work.began),
        leadership=Leadership(services.leases, owner, settings.leader_lease_s),
        notifier=Notifier(
            services.ledger,
            lambda: Connection(target_of(settings)),
            poll_s=POLL_INTERVAL_S,
            emit=services.emit,
        ),
        timings=_timings(settings),
        on_lead=dispatcher.reconcile,
        on_tick=on_tick,
        emit=services.emit,
    )


def _end() -> None:
    """End by force. Rows that were claimed and not enqueued are free when their locks end."""
    log.error("shutdown_forced")
    os._exit(1)


def _timings(settings: Settings) -> ProducerTimings:
    return ProducerTimings(
        poll_s=POLL_INTERVAL_S,
        lease_s=settings.leader_lease_s,
        rewind_s=settings.timings.rewind_s,
        quiet_rows=settings.batch_rows * settings.chord_batches,
    )
