"""What a worker or beat does when it starts and stops."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, signals

from embed_star.errors import EmbedStarError, TransientError
from embed_star.settings import Settings, retired_names
from tasks.base import ServiceTask
from tasks.worker.logs import refusal
from tasks.worker.starting import check_addresses

log = structlog.get_logger(__name__)

INSISTENT = {"max_retries": 22, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 2.0}
"""Of a worker's publishing: tries for about 30 s."""


def connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of `app`'s processes."""

    def check(**_: Any) -> None:
        """Refuse to start on a schema that does not fit; wait out a database that is down."""
        for name, advice in retired_names().items():
            log.warning("setting_retired", name=name, reason=advice)
        try:
            check_addresses(app, settings.redis_url)
            ServiceTask.services_of(app).check()
        except TransientError as error:
            log.warning("not_ready", reason=str(error))
        except EmbedStarError as error:
            raise refusal(error) from None
        log.info(
            "settings",
            space=ServiceTask.services_of(app).space.name,
            provider=settings.embedding_provider,
        )

    def insist(**_: Any) -> None:
        """Let a worker publish what it has in hand when Redis is back.

        Given up, a retry would leave its rows to the end of their locks. A producer gives
        up soon: it gives its rows back itself.
        """
        app.conf.task_publish_retry_policy = INSISTENT

    def close(**_: Any) -> None:
        ServiceTask.close_services(app)

    def forget_ids(**_: Any) -> None:
        structlog.contextvars.clear_contextvars()

    signals.worker_init.connect(check, weak=False)
    signals.worker_init.connect(insist, weak=False)
    signals.beat_init.connect(check, weak=False)
    signals.task_postrun.connect(forget_ids, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    signals.worker_process_shutdown.connect(close, weak=False)
