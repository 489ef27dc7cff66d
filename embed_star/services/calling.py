"""The provider gateway with its limits and its breaker, wired from the settings."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from embed_star import providers
from embed_star.calling.breaker import breaker
from embed_star.calling.breaker.breaker import Breaker, NeverOpen, Thresholds
from embed_star.calling.rate_limit.rate_limiter import Limits as RateLimits
from embed_star.embed import text
from embed_star.services.backends import Backends
from embed_star.settings import Settings
from embed_star.timings import BREAKER_WINDOW_S, THROTTLED_PAUSE_S

if TYPE_CHECKING:
    from embed_star.calling.canary import Canary
    from embed_star.calling.gateway import ProviderGateway
    from embed_star.calling.rate_limit.rate_limiter import RateLimiter
    from embed_star.calling.validation import Validator
    from embed_star.providers.base import Provider

FAILURE_RATE = 0.5
"""Share of failed calls that opens the breaker. When half of the calls fail, probes notice
sooner, and at less cost, that the provider is back."""

MIN_REQUESTS = 20
"""Calls that the share needs to count: fewer say little. If BREAKER_FAILURES is more, that many
are needed, or the share would open the breaker before so many failures."""

SEARCH_SHARE = 0.05
"""Share of the rate limit at which searches need not queue: at 3,000 calls a minute, 150."""


def thresholds_of(settings: Settings) -> Thresholds | None:
    """When the provider's breaker opens and closes; None for a provider that has none."""
    usual = breaker.DEFAULTS.get(settings.embedding_provider)
    if usual is None:
        return None
    return Thresholds(
        failures=settings.breaker_failures or usual.failures,
        open_s=settings.breaker_open_s or usual.open_s,
        successes_to_close=usual.successes_to_close,
        failure_rate=FAILURE_RATE,
        min_requests=max(MIN_REQUESTS, settings.breaker_failures),
        window_s=BREAKER_WINDOW_S,
        probe_s=settings.timings.longest_call_s,
    )


class Calling(Backends):
    """All parts that call the provider. Each is made when first used."""

    @cached_property
    def provider(self) -> Provider:
        return providers.create_provider(self.settings)

    @cached_property
    def breaker(self) -> Breaker:
        from embed_star.calling.breaker.shared import RedisBreaker

        thresholds = thresholds_of(self.settings)
        if thresholds is None:
            return NeverOpen()
        name = f"{self.space.provider}:{self.space.model}:{self.endpoint}"
        return RedisBreaker(self.redis, self.redis_prefix, name, thresholds)

    @cached_property
    def validator(self) -> Validator:
        from embed_star.calling.validation import Validator

        return Validator()

    @cached_property
    def canary(self) -> Canary:
        from embed_star.calling.canary import Canary

        return Canary(self.validator, self.store.spaces, self.space)

    @cached_property
    def gateway(self) -> ProviderGateway:
        """The provider gateway: every call goes through it."""
        from embed_star.calling.gateway import CallLimits, ProviderGateway

        settings = self.settings
        return ProviderGateway(
            self.provider,
            breaker=self.breaker,
            rate_limiter=self.rate_limiter,
            canary=self.canary,
            shutdown=self.shutdown,
            limits=CallLimits(
                dimensions=self.space.dimensions,
                first_calls=settings.first_calls,
                most_calls=settings.most_calls,
                throttled_pause_s=THROTTLED_PAUSE_S,
                estimate_tokens=text.estimate_tokens,
            ),
            emit=self.emit,
            sleep=self._sleep,
        )

    @cached_property
    def rate_limits(self) -> RateLimits:
        settings = self.settings
        return RateLimits(
            settings.requests_per_minute,
            settings.provider_tokens_per_minute,
            SEARCH_SHARE,
        )

    @cached_property
    def rate_limiter(self) -> RateLimiter:
        """The fleet's rate limiter for this model; one in memory for a model in the process."""
        from embed_star.calling.rate_limit.memory import MemoryRateLimiter
        from embed_star.calling.rate_limit.shared import RedisRateLimiter

        settings, wait_s = self.settings, self.settings.timings.rate_limit_wait_s
        if settings.embedding_provider == "local":
            return MemoryRateLimiter(self.rate_limits, max_wait_s=wait_s)
        name = f"{settings.embedding_provider}:{settings.model}:{self.endpoint}"
        return RedisRateLimiter(
            self.redis, self.redis_prefix, name, self.rate_limits, max_wait_s=wait_s
        )
