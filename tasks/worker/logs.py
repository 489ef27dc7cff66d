"""Where workers and beat log to, and how they say that they do not start."""

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

log = structlog.get_logger(__name__)


def connect(app: Celery, settings: Settings) -> None:
    """Let the processes of `app` log as `settings` say, or Celery's `-l` and `-f`.

    Before what may refuse to start: it is to be read where the log is.
    """

    def configure(logfile: str | None = None, **_: Any) -> None:
        try:
            level = _typed_level() or settings.log_level
            observe_logging.configure(level, settings.log_format, logfile)
        except OSError as error:
            reason = f"--logfile: cannot write to {logfile}: {error.strerror}"
            raise refusal(ConfigError(reason)) from None

    def begin(sender: Any, **_: Any) -> None:
        if not app.log.already_setup:  # Celery does it after a worker is there, before a beat is
            configure(node_format(sender.logfile, sender.hostname) if sender.logfile else None)

    signals.worker_init.connect(begin, weak=False)
    signals.setup_logging.connect(configure, weak=False)


def refusal(error: Exception) -> SystemExit:
    """Ends the process with one sentence; to be raised.

    Also in the log where that is a file: after `--detach` nobody sees stderr.
    """
    if observe_logging.is_file():
        log.critical("not_started", reason=str(error))
    return SystemExit(f"embed-star: {error}")


def _typed_level() -> str | None:
    """What `-l` says, if it was given: Celery's default is WARNING."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("loglevel") != ParameterSource.COMMANDLINE:
        return None
    return str(logging.getLevelName(context.params["loglevel"]))
