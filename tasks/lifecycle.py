"""What a worker does when it starts and stops."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, signals

from embed_star.errors import EmbedStarError, TransientError
from embed_star.settings import Settings
from tasks.base import ServiceTask

log = structlog.get_logger(__name__)


def connect(app: Celery, settings: Settings) -> None:
    """Connect to the signals of `app`'s workers."""

    def check(**_: Any) -> None:
        """Refuse to start on a schema that does not fit; wait out a database that is down."""
        try:
            ServiceTask.services_of(app).store.check()
        except TransientError as error:
            log.warning("not_ready", reason=str(error))
        except EmbedStarError as error:
            raise SystemExit(f"embed-star: {error}") from None
        log.info(
            "settings",
            space=ServiceTask.services_of(app).space.name,
            provider=settings.embedding_provider,
        )

    def close(**_: Any) -> None:
        ServiceTask.close_services(app)

    signals.worker_init.connect(check, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    signals.worker_process_shutdown.connect(close, weak=False)
