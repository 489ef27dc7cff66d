"""`embed-star watch`: the producer."""

from __future__ import annotations

import os
import secrets
import signal
import socket

import click

from embed_star import monitoring
from embed_star.events import Listeners
from embed_star.observe import logging as observe_logging
from embed_star.producer import Lease, Producer, Rhythm
from embed_star.services import Services, target_of
from embed_star.settings import Settings, load_settings
from embed_star.store.connection import Connection


@click.command()
def command() -> None:
    """Find pending rows and enqueue them, until stopped with Ctrl-C or SIGTERM.

    Several may run: one leads, the others take over within LEADER_LEASE_S.
    """
    settings = load_settings()
    # Here, since the app reads the settings when it is imported.
    from embed_star.celery import app
    from tasks.dispatch import CeleryDispatcher

    observe_logging.configure(settings.log_level, settings.log_format)
    listeners = Listeners()
    with Services(settings, listeners) as services:
        services.store.check()
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        pulse = monitoring.producer_pulse(settings)
        producer = Producer(
            backlog=services.backlog(CeleryDispatcher(app)),
            lease=Lease(services.locks, owner, settings.leader_lease_s),
            runs=services.runs,
            rhythm=_rhythm(settings),
            open_doorbell=(lambda: Connection(target_of(settings)))
            if settings.live_queries
            else None,
            on_lead=lambda: app.send_task("embed_star.reconcile"),
            on_turn=pulse.beat,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: producer.stop())
        with monitoring.of_producer(services, listeners, pulse, lambda: producer.leading):
            producer.run()


def _rhythm(settings: Settings) -> Rhythm:
    return Rhythm(
        poll_s=settings.poll_interval_s,
        lease_s=settings.leader_lease_s,
        rewind_s=settings.lock_ttl_s / 4,
        quiet_rows=settings.batch_size * settings.chord_batches,
    )
