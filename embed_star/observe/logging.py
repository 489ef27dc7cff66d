"""Structured logs: JSON lines in services, coloured lines on a terminal."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from embed_star.observe.terminal import shown

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(),
]


def configure(level: str, log_format: str, file: str | None = None) -> None:
    """Send all logs, those of libraries too, to stderr or `file`, one line an event.

    `log_format` is `json`, `console`, or `auto`: console when it goes to a terminal.
    A second call replaces the first. Raises OSError for a file that cannot be written.
    """
    terminal = file is None and sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    renderers: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer()]
        if console
        # JSON escapes line ends and control characters: one event stays one line.
        else [structlog.processors.JSONRenderer(sort_keys=False)]
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = (
        logging.StreamHandler(sys.stderr)
        if file is None
        # It reopens the file after a rotation.
        else WatchedFileHandler(file, encoding="utf-8")
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("urllib3", "websockets", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def is_file() -> bool:
    """Whether the log goes to a file."""
    return any(isinstance(one, WatchedFileHandler) for one in logging.getLogger().handlers)


def _escape(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape strings for a terminal. Other values are shown by their `repr`, which escapes."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = shown(value, keep="\n\t" if name in ("exception", "stack") else "")
    return event
