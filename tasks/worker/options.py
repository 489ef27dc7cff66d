"""The options of a worker: its pool, and refusals of options that would do harm."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import structlog
from celery import Celery, signals
from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.concurrency.solo import TaskPool as SoloPool

from embed_star.coordination.queues import NAMES
from embed_star.errors import ConfigError
from tasks.workarounds.thread_slots import ThreadPool
from tasks.worker.logs import refusal
from tasks.worker.signals import on

log = structlog.get_logger(__name__)

PROCESS_OPTIONS = {
    "time_limit": "--time-limit",
    "soft_time_limit": "--soft-time-limit",
    "max_tasks_per_child": "--max-tasks-per-child",
    "max_memory_per_child": "--max-memory-per-child",
}
"""Options that a pool of threads ignores."""

BROKER = "-b or CELERY_BROKER_URL, CELERY_BROKER_READ_URL, CELERY_BROKER_WRITE_URL"
RESULTS = "--result-backend or CELERY_RESULT_BACKEND"

_TYPED_PREFORK = re.compile(r"(^|\0)(-P|--pool)[=\0]?prefork(\0|$)")
"""In the arguments. Celery takes it for its own default, and then uses `worker_pool`."""


def check_addresses(app: Celery, redis_url: str) -> None:
    """Raise ConfigError when Celery would use another Redis than everything else."""
    conf = app.conf
    if any(url != redis_url for url in (conf.broker_read_url, conf.broker_write_url)):
        raise ConfigError(f"{BROKER}: all of embed_star uses one Redis; set REDIS_URL instead")
    if conf.result_backend != redis_url:
        raise ConfigError(f"{RESULTS}: all of embed_star uses one Redis; set REDIS_URL instead")


def connect(app: Celery) -> None:
    """Choose the pool of the workers of `app` and check their options.

    To be connected before everything that reads their pool.
    """
    signals.import_modules.connect(_check_typed, sender=app, weak=False)
    on(signals.worker_init, app, _begin)


def _begin(sender: Any, **_: Any) -> None:
    if _TYPED_PREFORK.search("\0".join(sys.argv)):
        sender.pool_cls = ProcessPool
    # Asks all other workers for revoked tasks, of which there are none, and waits for a second,
    # also after each loss of the connection.
    sender.options["without_mingle"] = True
    try:
        _check(sender)
    except ConfigError as error:
        raise refusal(error) from None


def _check_typed(sender: Celery, **_: Any) -> None:
    """Refuse options with which Celery would end in a traceback, or its beat alone would.

    Celery sends the signal before it looks at them, in a worker and in beat.
    """
    context = click.get_current_context(silent=True)
    typed = context.params if context else {}
    try:
        if (context and context.info_name == "beat") or typed.get("beat"):
            _check_scheduler(typed.get("scheduler"), sender.conf.beat_scheduler)
        for option in ("pidfile", "statedb"):
            if not (given := typed.get(option)):
                continue
            folder = Path(given).parent
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"--{option}: there is no folder {folder} that may be written to")
    except ConfigError as error:
        raise refusal(error) from None


def _check_scheduler(typed: str | None, ours: str) -> None:
    # Its heartbeat is what the probes of beat go by.
    if typed not in (None, ours):
        raise ConfigError("--scheduler: beat has a scheduler of its own; leave this option out")


def _check(worker: Any) -> None:
    """Raise ConfigError for options with which a worker takes messages and does nothing."""
    pool = get_implementation(worker.pool_cls)
    if not issubclass(pool, ThreadPool | ProcessPool | SoloPool):
        raise ConfigError(
            f"-P: no worker runs on {pool.__module__}; use threads, processes or solo"
        )
    if worker.options.get("autoscale") and not issubclass(pool, ProcessPool):
        raise ConfigError(
            "--autoscale needs processes: add -P processes, or use -c N, "
            "since threads cost nothing while they wait"
        )
    queues = set(worker.app.amqp.queues.consume_from)
    if not queues:
        raise ConfigError("-X: no queue is left to take messages from")
    if unknown := sorted(queues - set(NAMES)):
        raise ConfigError(
            f"-Q: there is no queue {', '.join(unknown)}; there are {', '.join(sorted(NAMES))}"
        )
    if not issubclass(pool, ProcessPool):
        for option in _ignored(worker):
            log.warning("option_ignored", option=option, reason="it is for -P processes")


def _ignored(worker: Any) -> Iterator[str]:
    return (option for name, option in PROCESS_OPTIONS.items() if getattr(worker, name, None))
