"""Decides whether a text or the provider is blamed for a failed call. Pure functions."""

from __future__ import annotations

from embed_star.calling.breaker.breaker import State
from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderError,
    ProviderProtocolError,
)

PROBE_WAITS_S = (0.0, 0.5, 2.0, 5.0)
"""The pauses before each probe after a failed call. A provider that a text has crashed needs a
moment to restart."""

PATIENCE_S = 10.0
"""No probe after a failed call begins later than this: each may take the whole time-out."""

ALONE_MIN, ALONE_MAX = 2, 8
"""Failures of a text that was asked alone, each with an answer to the canary after it. Fewer
than the first number never blame the text; the second number always does: a provider at which
every other call fails at random fails so eight times with a chance of 0.25 ** 8 = 0.000015."""

CHANCE = 1e-5
"""Between these numbers the text is blamed if the chance that all failures were the provider's,
by its rate of failures, is below this."""


class CallFailed(Exception):
    """A call failed, and the cause is not known yet."""

    def __init__(self, error: EmbedStarError) -> None:
        super().__init__(str(error))
        self.error = error


def is_beyond_chance(failures: int, seen: State) -> bool:
    """Whether this many failures in a row of a text, asked alone, are the text's fault."""
    share = (seen.failed_requests + 1) / (seen.requests + 2)  # none yet: one in two
    return failures >= ALONE_MAX or (failures >= ALONE_MIN and share**failures < CHANCE)


def lasts(error: EmbedStarError) -> bool:
    """Whether the next call would fail, too, however long one waits."""
    return isinstance(error, ProviderAuthError | ProviderConfigError)


def suspicion(error: EmbedStarError) -> str:
    """The failure reason to record if the text turns out to be the cause."""
    if isinstance(error, ProviderProtocolError):
        return "garbles_answer"
    return "rejected" if isinstance(error, ProviderError) else "crashes_provider"


def refuses_all(provider: str, error: InputRejected) -> ProviderConfigError:
    """The provider's error to raise after it refused the canary with `error`."""
    said = f" ({error.said})" if error.said else ""
    return ProviderConfigError(
        f"{provider} refuses our own text as well{said}, so it is no row's fault: "
        "check the account, the model and the settings of the provider"
    )
