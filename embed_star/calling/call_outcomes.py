"""Names for how a call to the provider ended, for metrics and spans."""

from __future__ import annotations

from embed_star.errors import (
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
    ShuttingDown,
)

OK = "ok"
BUG = "bug"
THROTTLED = "throttled"
UNAVAILABLE = "unavailable"

_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (ProviderThrottled, THROTTLED),  # before what it is a kind of
    (ProviderUnavailable, UNAVAILABLE),
    (ProviderAuthError, "auth"),
    (ProviderConfigError, "config"),
    (ProviderProtocolError, "protocol"),
    (InputRejected, "rejected"),
    (ShuttingDown, "cut"),
)
FAULTS = (*(name for _, name in _FAULTS), BUG)
"""A failed call counts as one of these. `bug` is an error that no provider may raise."""


def fault_of(error: Exception) -> str:
    """One of `FAULTS`."""
    return next((name for kind, name in _FAULTS if isinstance(error, kind)), BUG)
