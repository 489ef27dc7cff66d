"""What breaker and rate limiter are told after a call that was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from embed_star.errors import RedisUnavailable

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


def report(tell: Callable[[], _T], missed: _T) -> _T:
    """The answer of `tell`; `missed` without Redis, which is logged.

    The call was made, and its vectors are worth more than the report.
    """
    try:
        return tell()
    except RedisUnavailable as error:
        log.warning("call_not_reported", reason=str(error))
        return missed
