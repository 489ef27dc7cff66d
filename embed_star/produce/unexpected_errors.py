"""Errors that no loop expects, and that none of them ends with."""

from __future__ import annotations

import structlog

from embed_star.errors import place_of
from embed_star.events import Emit, LoopFailed

log = structlog.get_logger(__name__)


def report(error: Exception, loop: str, wait_s: float, emit: Emit) -> None:
    """Log and count `error`, after which `loop` goes on in `wait_s` seconds.

    Neither its message nor a traceback is logged: both may quote a row.
    """
    log.error(
        "unexpected_error",
        loop=loop,
        error=type(error).__name__,
        place=place_of(error),
        wait_s=round(wait_s, 2),
    )
    emit(LoopFailed(loop))
