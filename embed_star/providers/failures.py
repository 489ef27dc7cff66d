"""What a call that got no whole answer means: errors of requests and below to our tree.

The foreign error is dropped, its words too: they may repeat addresses with a password.
"""

from __future__ import annotations

import http.client

import requests
import urllib3.exceptions

from embed_star.errors import (
    EmbedStarError,
    ProviderConfigError,
    ProviderUnavailable,
    ShuttingDown,
)
from embed_star.providers.deadline import Deadline, Limits
from embed_star.providers.refusals import Endpoint

FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""Everything that requests raises, and what slips through it."""


def failure(
    error: Exception, endpoint: Endpoint, limits: Limits, deadline: Deadline
) -> EmbedStarError:
    """The error that `error`, one of `FOREIGN`, is for a call to `endpoint`."""
    if deadline.was_cut:
        return ShuttingDown(f"the call to {endpoint.provider} was cut off")
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return ProviderConfigError("the proxy in HTTP_PROXY or HTTPS_PROXY is not a URL")
    if isinstance(error, requests.exceptions.InvalidURL | urllib3.exceptions.LocationParseError):
        return ProviderConfigError(f"{endpoint.url_setting} is not a URL that can be called")
    trouble = _lateness(error, limits, deadline) or _trouble(error, endpoint)
    return ProviderUnavailable(f"{endpoint.label} {trouble}")


def _lateness(error: Exception, limits: Limits, deadline: Deadline) -> str:
    """Which time ran out, as the end of a sentence; empty if none did."""
    if not deadline.remaining_s():
        return f"did not finish within PROVIDER_TOTAL_TIMEOUT_S = {limits.total_s:g} s"
    if isinstance(error, requests.ConnectTimeout):
        return (
            f"could not be connected to within PROVIDER_CONNECT_TIMEOUT_S = {limits.connect_s:g} s"
        )
    if isinstance(error, requests.Timeout) or _has(error, urllib3.exceptions.ReadTimeoutError):
        return f"was silent for PROVIDER_READ_TIMEOUT_S = {limits.read_s:g} s"
    return ""


def _trouble(error: Exception, endpoint: Endpoint) -> str:
    """What happened to the connection, as the end of a sentence."""
    if isinstance(error, requests.exceptions.ProxyError):
        return "could not be reached through the proxy; check HTTP_PROXY, HTTPS_PROXY, NO_PROXY"
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "offers no trusted TLS connection; check "
            f"{endpoint.url_setting}, and REQUESTS_CA_BUNDLE for a private authority"
        )
    if _has(error, urllib3.exceptions.NameResolutionError):
        return f"has a name that does not resolve; check {endpoint.url_setting}"
    if _has(error, urllib3.exceptions.NewConnectionError):
        return f"accepts no connection; check {endpoint.url_setting}, and that it runs"
    return "broke off its answer, or sent one that cannot be unpacked"


def _has(error: BaseException, kind: type[Exception]) -> bool:
    """Whether `error` is, or wraps, an error of this kind (requests wraps urllib3's)."""
    inner = [part for part in error.args if isinstance(part, Exception)]
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        inner.append(reason)
    return isinstance(error, kind) or any(_has(part, kind) for part in inner)
