"""The start and the end of a worker or of beat."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, signals

from embed_star.errors import EmbedStarError, TransientError
from embed_star.settings import Settings, retired_names
from embed_star.start import give_back_memory, uncollected
from tasks.base import state_of
from tasks.worker.logs import refusal
from tasks.worker.options import check_addresses
from tasks.worker.signals import on

log = structlog.get_logger(__name__)

PATIENT_PUBLISHING = {
    "max_retries": 22,
    "interval_start": 0.1,
    "interval_step": 0.2,
    "interval_max": 2.0,
}
"""The retry policy of a worker that publishes: about 30 s in all."""


def connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of the workers and the beat of `app`."""
    state = state_of(app)

    def check(**_: Any) -> None:
        """Refuse to start on a schema that does not fit; a database may be down."""
        for name, advice in retired_names().items():
            log.warning("setting_retired", name=name, reason=advice)
        try:
            check_addresses(app, settings.redis_url)
            state.services.check()
        except TransientError as error:
            log.warning("not_ready", reason=str(error))
        except EmbedStarError as error:
            raise refusal(error) from None
        log.info(
            "settings",
            space=state.services.space.name,
            provider=settings.embedding_provider,
        )

    def frugal(**_: Any) -> None:
        give_back_memory()

    def import_parts(**_: Any) -> None:
        """Import what the tasks use, before a pool forks: its children share it, and no first
        task waits for it."""
        with uncollected():
            import embed_star.embed.embedder
            import embed_star.providers.responses
            import embed_star.write.storer  # noqa: F401

    def publish_patiently(**_: Any) -> None:
        """Let a worker publish its retries once Redis is back.

        Without its retry, a task's rows would stay locked until their locks end. A producer
        does not wait so long: it releases its rows itself.
        """
        app.conf.task_publish_retry_policy = PATIENT_PUBLISHING

    def close(**_: Any) -> None:
        state.close_services()

    def forget_ids(**_: Any) -> None:
        structlog.contextvars.clear_contextvars()

    on(signals.worker_init, app, frugal)  # before the first thread
    on(signals.worker_init, app, check)
    on(signals.worker_init, app, publish_patiently)
    on(signals.worker_init, app, import_parts)
    on(signals.beat_init, app, check)
    on(signals.task_postrun, app, forget_ids)
    on(signals.worker_shutdown, app, close)
    on(signals.worker_process_shutdown, app, close)
