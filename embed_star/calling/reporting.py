"""Reports the end of a call to the breaker and the rate limiter, without losing the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from embed_star.errors import RedisUnavailable

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


def report(tell: Callable[[], _T], missed: _T) -> _T:
    """The result of `tell`. Without Redis it is `missed`, and a warning is logged.

    The call was made, and its vectors are worth more than the report.
    """
    try:
        return tell()
    except RedisUnavailable as error:
        log.warning("call_not_reported", reason=str(error))
        return missed
