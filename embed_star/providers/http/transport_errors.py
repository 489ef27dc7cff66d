"""Calls without a whole answer: errors of requests and below, mapped to our error tree.

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
from embed_star.providers.error_responses import Endpoint
from embed_star.providers.http.connection_faults import (
    PROXIES,
    is_proxied,
    lasting_fault,
    proxy_trouble,
    refused_by_proxy,
    wraps,
)
from embed_star.providers.http.deadline import Deadline, Limits
from embed_star.providers.http.error_bodies import Refusal

FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""Everything that requests raises, and errors of layers below that it lets through."""


def failure(
    error: Exception, endpoint: Endpoint, limits: Limits, deadline: Deadline
) -> EmbedStarError:
    """The error of our tree for `error`, one of `FOREIGN`, in a call to `endpoint`."""
    if deadline.was_aborted:
        return ShuttingDown(f"the call to {endpoint.provider} was cut off")
    if sentence := lasting_fault(error, endpoint.base_url):
        return ProviderConfigError(sentence)
    if isinstance(error, requests.exceptions.InvalidURL | urllib3.exceptions.LocationParseError):
        return ProviderConfigError(f"{endpoint.url_setting} is not a URL that can be called")
    trouble = (
        _lateness(error, endpoint, limits, deadline)
        or proxy_trouble(error, endpoint.base_url)
        or _trouble(error, endpoint)
    )
    return ProviderUnavailable(f"{endpoint.label} {trouble}")


def answer_of_proxy(refusal: Refusal, endpoint: Endpoint) -> EmbedStarError | None:
    """The error of our tree if a proxy sent `refusal`, None if the provider did.

    Over plain HTTP the proxy's answers look like the provider's, but for being no JSON.
    """
    url = endpoint.base_url
    if refusal.is_json or url.startswith("https:") or not is_proxied(url):
        return None
    if refusal.status == 403:
        return ProviderConfigError(refused_by_proxy(403, url))
    if refusal.status in (502, 503, 504):
        return ProviderUnavailable(
            f"{endpoint.label} could not be reached through the proxy "
            f"(HTTP {refusal.status}); check {PROXIES}"
        )
    return None


def is_silence(error: Exception) -> bool:
    """Whether the server accepted the call and then was silent for too long."""
    return (
        isinstance(error, requests.Timeout) and not isinstance(error, requests.ConnectTimeout)
    ) or wraps(error, urllib3.exceptions.ReadTimeoutError)


def _lateness(error: Exception, endpoint: Endpoint, limits: Limits, deadline: Deadline) -> str:
    """The time-out that ended the call, as the end of a sentence; empty if none did."""
    if not deadline.remaining_s() or (is_silence(error) and deadline.silence_s > limits.read_s):
        return (
            f"did not finish within PROVIDER_TOTAL_TIMEOUT_S = {limits.total_s:g} s; if its model "
            "takes longer to load, raise that, and LOCK_TTL_S with it"
        )
    if isinstance(error, requests.ConnectTimeout):
        return (
            f"could not be connected to within {limits.connect_s:g} s; check "
            f"{endpoint.url_setting}, and that it runs"
        )
    is_proxy = isinstance(error, requests.exceptions.ProxyError)
    if wraps(error, TimeoutError) and not is_silence(error) and not is_proxy:
        return (
            # In the middle of the upload.
            f"took nothing for {limits.read_s:g} s, two thirds of PROVIDER_TOTAL_TIMEOUT_S; check "
            "that it runs"
        )
    if is_silence(error):
        return (
            f"was silent for {limits.read_s:g} s, two thirds of PROVIDER_TOTAL_TIMEOUT_S; raise "
            "that if its model takes longer to load"
        )
    return ""


def _trouble(error: Exception, endpoint: Endpoint) -> str:
    """The connection's fault, as the end of a sentence."""
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "offers no trusted TLS connection; check "
            f"{endpoint.url_setting}, and REQUESTS_CA_BUNDLE for a private authority"
        )
    if wraps(error, urllib3.exceptions.NameResolutionError):
        return f"has a name that does not resolve; check {endpoint.url_setting}"
    if wraps(error, urllib3.exceptions.NewConnectionError):
        return f"accepts no connection; check {endpoint.url_setting}, and that it runs"
    return "broke off its answer, or sent one that cannot be unpacked"
