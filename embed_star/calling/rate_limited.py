"""A provider that asks the fleet's budget before each call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from embed_star.calling.rate_limit.rate_limiter import RateLimiter, admit
from embed_star.errors import ProviderThrottled
from embed_star.providers.base import Embeddings, Provider

log = structlog.get_logger(__name__)

PAUSE_MIN_S = 1.0
"""However soon a provider that answered 429 says to come back."""


class RateLimitedProvider:
    """A `Provider` over another one: each call waits for its slot, and 429 pauses the fleet.

    A call that cannot be made soon raises ProviderThrottled, as does a 429; both say when
    to come back.
    """

    def __init__(
        self,
        provider: Provider,
        budget: RateLimiter,
        estimate_tokens: Callable[[str], int],
        *,
        throttled_pause_s: float,
        reserved: bool = False,
        pauses: bool = True,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`throttled_pause_s` is the pause after a 429 that names none; without `pauses`,
        a 429 is for these texts, and nobody else has to wait.

        What `sleep` raises ends the wait for a slot, which is given back.
        """
        self.name = provider.name
        self.model = provider.model
        self.dimensions = provider.dimensions
        self._provider = provider
        self._budget = budget
        self._estimate_tokens = estimate_tokens
        self._throttled_pause_s = throttled_pause_s
        self._reserved = reserved
        self._pauses = pauses
        self._sleep = sleep

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Provider.embed`; it may take as much longer as the budget books ahead."""
        tokens = sum(map(self._estimate_tokens, texts))
        grant = admit(self._budget, tokens, reserved=self._reserved, sleep=self._sleep)
        try:
            answer = self._provider.embed(texts)
        except ProviderThrottled as error:
            asked_s = error.retry_after_s
            pause_s = self._throttled_pause_s if asked_s is None else max(asked_s, PAUSE_MIN_S)
            if self._pauses:
                self._budget.pause(pause_s)
            log.warning("provider_throttled", pause_s=pause_s, fleet=self._pauses)
            raise ProviderThrottled(str(error), pause_s, answered=True) from error
        if answer.tokens is not None:
            self._budget.settle(grant, answer.tokens)
        if answer.quota_pause_s is not None:
            self._budget.pause(answer.quota_pause_s)
        return answer

    def abort(self) -> None:
        """See `Provider.abort`."""
        self._provider.abort()

    def close(self) -> None:
        """See `Provider.close`."""
        self._provider.close()
