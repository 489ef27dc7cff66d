"""Waits for a call's slot in the rate limit, settles it, and pauses the fleet after a 429."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import structlog

from embed_star.calling.rate_limit.rate_limiter import Grant, RateLimiter, admit
from embed_star.calling.reporting import report
from embed_star.errors import ProviderThrottled, RedisUnavailable
from embed_star.providers.base import Embeddings

log = structlog.get_logger(__name__)

PAUSE_MIN_S = 1.0
"""Shortest pause after a 429, even if the provider asks for less."""


class Traffic(Enum):
    """Who calls."""

    ROWS = "rows"
    APART = "rows whose 429 concerns nobody else"
    SEARCH = "a search, which has a reserved share"


class Slots:
    """The rate limit, as the gateway uses it. Thread-safe."""

    def __init__(
        self,
        limiter: RateLimiter,
        *,
        estimate_tokens: Callable[[str], int],
        throttled_pause_s: float,
        sleep: Callable[[float], object],
    ) -> None:
        """`throttled_pause_s` is the pause after a 429 that names none. When `sleep` raises, the
        wait ends and the slot is returned."""
        self._limiter = limiter
        self._estimate_tokens = estimate_tokens
        self._throttled_pause_s = throttled_pause_s
        self._sleep = sleep
        self._limits_searches = True

    def take(self, texts: Sequence[str], traffic: Traffic) -> Grant | None:
        """Wait for the slot of a call with `texts`. None for a search while Redis is away.

        Raises ProviderThrottled when no slot is near, and RedisUnavailable.
        """
        tokens = sum(map(self._estimate_tokens, texts))
        is_search = traffic is Traffic.SEARCH
        try:
            grant = admit(self._limiter, tokens, reserved=is_search, sleep=self._sleep)
        except RedisUnavailable as error:
            if not is_search:
                raise
            if self._limits_searches:  # said once
                log.warning("budget_without_redis", reason=str(error))
            self._limits_searches = False
            return None
        self._limits_searches = True
        return grant

    def settle(self, grant: Grant | None, answer: Embeddings) -> None:
        """Correct the tokens of an answered call to those that the provider counted."""
        tokens, pause_s = answer.tokens, answer.quota_pause_s
        if grant is not None and tokens is not None:
            report(lambda: self._limiter.settle(grant, tokens), None)
        if pause_s is not None:
            report(lambda: self._limiter.pause(pause_s), None)

    def throttled(self, error: ProviderThrottled, traffic: Traffic) -> ProviderThrottled:
        """Pause the fleet after a 429, unless the call was `APART`. Returns the error to raise."""
        asked_s = error.retry_after_s
        pause_s = self._throttled_pause_s if asked_s is None else max(asked_s, PAUSE_MIN_S)
        fleet = traffic is not Traffic.APART
        if fleet:
            report(lambda: self._limiter.pause(pause_s), None)
        log.warning("provider_throttled", pause_s=pause_s, fleet=fleet)
        return ProviderThrottled(str(error), pause_s, answered=True)
