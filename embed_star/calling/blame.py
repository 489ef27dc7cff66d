"""When a text is blamed for a call that failed, and when the provider is. Pure functions."""

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
"""After a failed call, the pauses before each probe: a provider that a text has crashed needs
a moment to come back."""

ALONE_MIN, ALONE_MAX = 2, 8
"""Failures of a text alone, an answer to our own after each: fewer never blame it, so
many always do. A provider that fails at random does so eight times over with a chance of
0.25 ** 8 = 0.000015 at the worst, when every other call fails."""

CHANCE = 1e-5
"""In between, how likely the failures may be to be the provider's, by how often it fails
otherwise, and the text still be blamed."""


class CallFailed(Exception):
    """A call failed, and it is open whose fault that is."""

    def __init__(self, error: EmbedStarError) -> None:
        super().__init__(str(error))
        self.error = error


def is_beyond_chance(failures: int, seen: State) -> bool:
    """Whether so many failures of a text alone, in a row, show that it is at fault."""
    share = (seen.failed_requests + 1) / (seen.requests + 2)  # none yet: one in two
    return failures >= ALONE_MAX or (failures >= ALONE_MIN and share**failures < CHANCE)


def lasts(error: EmbedStarError) -> bool:
    """Whether the next call would fail as well: waiting does not help."""
    return isinstance(error, ProviderAuthError | ProviderConfigError)


def suspicion(error: EmbedStarError) -> str:
    """The failure reason of a text, if it is what the provider failed at."""
    if isinstance(error, ProviderProtocolError):
        return "garbles_answer"
    return "rejected" if isinstance(error, ProviderError) else "crashes_provider"


def refuses_all(provider: str, error: InputRejected) -> ProviderConfigError:
    """`error`, the answer to our own text, as the provider's fault."""
    said = f" ({error.said})" if error.said else ""
    return ProviderConfigError(
        f"{provider} refuses our own text as well{said}, so it is no row's fault: "
        "check the account, the model and the settings of the provider"
    )
