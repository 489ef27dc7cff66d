"""The logs of workers and beat, and the refusal to start."""

from __future__ import annotations

import logging
from typing import Any

import click
import structlog
from celery import Celery, signals
from celery.utils.nodenames import node_format
from click.core import ParameterSource

from embed_star.errors import ConfigError
from embed_star.observe import logging as observe_logging
from embed_star.settings import Settings
from tasks.worker.signals import on

log = structlog.get_logger(__name__)


def connect(app: Celery, settings: Settings) -> None:
    """Configure the logs by `settings`, or by Celery's `-l` and `-f` where they are given.

    To be connected before everything that may refuse to start: a refusal is logged, too.
    """

    def configure(logfile: str | None = None, **_: Any) -> None:
        try:
            level = _typed_level() or settings.log_level
            observe_logging.configure(level, settings.log_format, logfile)
        except OSError as error:
            reason = f"--logfile: cannot write to {logfile}: {error.strerror}"
            raise refusal(ConfigError(reason)) from None

    def begin(sender: Any, **_: Any) -> None:
        if not app.log.already_setup:  # Celery does it before `beat_init`, after `worker_init`
            configure(node_format(sender.logfile, sender.hostname) if sender.logfile else None)

    on(signals.worker_init, app, begin)
    signals.setup_logging.connect(configure, weak=False)  # names no app; one process, one log


def refusal(error: Exception) -> SystemExit:
    """The end of the process with one sentence; raise it.

    It is also logged where the log is a file: after `--detach` nobody sees stderr.
    """
    if observe_logging.is_file():
        log.critical("not_started", reason=str(error))
    return SystemExit(f"embed-star: {error}")


def _typed_level() -> str | None:
    """The level of `-l`; None when it was not given, where Celery's default is WARNING."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("loglevel") != ParameterSource.COMMANDLINE:
        return None
    return str(logging.getLevelName(context.params["loglevel"]))
