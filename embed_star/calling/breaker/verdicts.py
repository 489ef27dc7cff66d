"""Tells the breaker how a call ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import structlog

from embed_star.calling.blame import CallFailed
from embed_star.calling.breaker.breaker import Admission, Breaker
from embed_star.calling.reporting import report
from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderPaused,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
)

log = structlog.get_logger(__name__)


class Verdicts:
    """Tells the breaker how calls ended. If Redis is away then, that is logged and not raised."""

    def __init__(self, breaker: Breaker, provider: str) -> None:
        self._breaker = breaker
        self._provider = provider

    @contextmanager
    def judging(self, admission: Admission) -> Iterator[None]:
        """Tell the breaker how the call in the block ended.

        It is not told of InputRejected and CallFailed: their cause is not known yet.
        """
        try:
            yield
        except (InputRejected, CallFailed):
            raise
        except (ProviderAuthError, ProviderConfigError) as error:
            self.blame(admission, error, for_certain=True)
        except ProviderThrottled:
            self.abandon(admission)
            raise
        except (ProviderUnavailable, ProviderProtocolError) as error:
            raise CallFailed(error) from error
        except BaseException:
            self.abandon(admission)
            raise
        if report(lambda: self._breaker.succeeded(admission), False):
            log.info("provider_resumed", provider=self._provider)

    def blame(
        self, admission: Admission, error: EmbedStarError, *, for_certain: bool = False
    ) -> NoReturn:
        """Report that the provider is at fault.

        Raises `error`, or ProviderPaused when the breaker is open.
        """
        opened = report(lambda: self._breaker.failed(admission, for_certain=for_certain), False)
        wait_s = report(lambda: self._breaker.state().retry_in_s, 0.0)
        if opened:
            log.error("provider_paused", reason=str(error), retry_in_s=wait_s)
        if wait_s or admission.probe:
            raise ProviderPaused(str(error), wait_s) from error
        raise error

    def abandon(self, admission: Admission) -> None:
        """Report that the call showed nothing about the provider."""
        report(lambda: self._breaker.abandon(admission), None)
