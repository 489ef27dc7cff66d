"""The factory of the Celery app: its configuration, its tasks and their processes."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Queue

from beat_schedule import beat_schedule
from embed_star.coordination import queues
from embed_star.coordination.queues import EMBED_QUEUE, STORE_QUEUE, SWEEP_QUEUE
from embed_star.settings import Settings
from tasks import embed, maintenance, queue_names, store, tracing, transport
from tasks.base import SHOWN_CHARS, ServiceTask, attach_state
from tasks.workarounds import chord_results, cut_results, lost_child, thread_slots
from tasks.worker import (
    concurrency,
    lifecycle,
    logs,
    monitoring,
    options,
    presence,
    shutdown,
    stand_by,
)


def create_app(settings: Settings) -> Celery:
    """An app with all tasks registered; it connects to nothing yet. Raises ConfigError."""
    app = Celery("embed_star", task_cls=ServiceTask)
    app.conf.update(configuration(settings))
    options.check_addresses(app, settings.redis_url)
    attach_state(app, settings)
    _apply_workarounds(app)
    queue_names.use(app)
    app.amqp.argsrepr_maxsize = app.amqp.kwargsrepr_maxsize = SHOWN_CHARS
    for module in (embed, store, maintenance):
        module.register(app, settings)
    _connect(app, settings)
    return app


def _apply_workarounds(app: Celery) -> None:
    transport.apply()
    lost_child.apply()
    cut_results.apply()
    thread_slots.apply()
    chord_results.apply(app)


def _connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of workers and beat. Receivers run in this order."""
    logs.connect(app, settings)
    options.connect(app)
    concurrency.connect(app, settings)
    presence.connect(app)  # its end comes before the services are closed
    lifecycle.connect(app, settings)
    stand_by.connect(app, (EMBED_QUEUE, STORE_QUEUE, SWEEP_QUEUE))
    monitoring.connect(app, settings)
    tracing.connect(app, settings)
    shutdown.connect(app)


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings; each one that is not obvious has its reason."""
    socket = {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_keepalive": True,
    }
    return {
        "broker_url": settings.redis_url,
        "broker_transport_options": {
            **socket,
            "visibility_timeout": settings.visibility_timeout_s,
            # A half-open connection is dropped after this many seconds without a reply.
            "health_check_interval": 10,
            "priority_steps": list(queues.PRIORITY_STEPS),
            "queue_order_strategy": "priority",
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Without it, an error of Redis that leaves the connection up, such as OOM, ends the
        # worker.
        "broker_channel_error_retry": True,
        "result_backend": settings.redis_url,
        "result_backend_transport_options": socket,
        "redis_socket_timeout": settings.redis_timeout_s,
        "redis_socket_connect_timeout": settings.redis_timeout_s,
        "redis_retry_on_timeout": True,
        # Deletes chords whose parts were lost; their rows are claimed again long before.
        "result_expires": int(2 * settings.visibility_timeout_s),
        "result_chord_ordered": True,
        # JSON and nothing else, for results too: a pickled message would run code.
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # A task that dies with its worker is delivered again; both tasks may run twice.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A worker takes only messages that it can begin; others get the rest of the queue.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_eta_task_limit": 1000,
        "worker_pool": "threads",
        "worker_concurrency": concurrency.slots(settings),
        "worker_hijack_root_logger": False,
        # Events cost a seventh of a worker's throughput; `-E` or Flower turns them on.
        "worker_send_task_events": False,
        "task_default_queue": SWEEP_QUEUE,
        "task_queues": [Queue(name, routing_key=name) for name in queues.NAMES],
        "task_routes": {
            "embed_star.embed_batch": {"queue": EMBED_QUEUE},
            "embed_star.store_embeddings": {"queue": STORE_QUEUE},
        },
        "timezone": "UTC",
        "beat_schedule": beat_schedule(settings),
        "beat_max_loop_interval": 30,
        "beat_scheduler": "tasks.worker.scheduler:Scheduler",
    }
