"""Faults on our side of an HTTP call: its proxy, its certificates.

Requests reads them from the environment, so the variables are named here. Sentences hold
no address: a proxy's may have a password.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.utils import get_environ_proxies, select_proxy

PROXIES = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"
BUNDLES = "REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE)"

_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


def is_proxied(url: str) -> bool:
    """Whether requests would call `url` through a proxy."""
    return bool(select_proxy(url, get_environ_proxies(url)))


def lasting_fault(error: Exception, url: str) -> str:
    """What the operator must change before calls to `url` can work, "" if nothing is known.

    A whole sentence; `error` is what requests, or something below it, raised.
    """
    words = str(error)
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in words:
        return (
            "the proxy in ALL_PROXY, HTTP_PROXY or HTTPS_PROXY is a SOCKS proxy, which needs the "
            "package PySocks: run `pip install PySocks`, set it to an HTTP proxy, or put "
            f"{host_of(url)} into NO_PROXY"
        )
    if _is_bad_address(error) and is_proxied(url):
        return "the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not a URL that can be used"
    if _is_bad_bundle(error):
        return (
            f"{BUNDLES} names no readable file of certificates; correct it, or unset it to use "
            "the usual authorities"
        )
    return refused_by_proxy(tunnel_status(error), url)


def refused_by_proxy(status: int, url: str) -> str:
    """What to change when a proxy itself answered `status`, "" if waiting may help."""
    if status == 407:
        return (
            "the proxy asks for a user and a password (HTTP 407): put them into HTTP_PROXY or "
            f"HTTPS_PROXY, as in http://user:password@host:port, or {host_of(url)} into NO_PROXY"
        )
    if 400 <= status < 500:
        return (
            f"the proxy refuses to connect to {host_of(url)} (HTTP {status}): have it allowed "
            "there, or put it into NO_PROXY"
        )
    return ""


def proxy_trouble(error: Exception, url: str) -> str:
    """A passing fault of a proxy, as the end of a sentence; "" if there was none."""
    if isinstance(error, requests.exceptions.ProxyError):
        status = tunnel_status(error)
        return (
            f"could not be reached through the proxy{f' (HTTP {status})' if status else ''}; "
            f"check {PROXIES}"
        )
    # Many proxies end, or reset, what they do not like, and http.client cannot tell whose end
    # of the tunnel that was.
    if wraps(error, urllib3.exceptions.ProtocolError) and is_proxied(url):
        return f"was reached through a proxy, and the connection broke off; check {PROXIES}"
    return ""


def tunnel_status(error: Exception) -> int:
    """The status with which a proxy refused to connect, 0 if it did not refuse."""
    found = _TUNNEL_STATUS.search(str(error))
    return int(found[1]) if found else 0


def _is_bad_address(error: Exception) -> bool:
    return isinstance(
        error,
        requests.exceptions.InvalidURL
        | requests.exceptions.InvalidSchema
        | urllib3.exceptions.LocationValueError,
    )


def _is_bad_bundle(error: Exception) -> bool:
    words = str(error)
    if type(error) is OSError:  # what requests raises before it connects
        return "certificate bundle" in words
    # What OpenSSL says of a file without certificates, and the system of one it cannot read.
    return isinstance(error, requests.exceptions.SSLError) and bool(
        re.search(r"\[X509: NO_CERTIFICATE|PermissionError|FileNotFoundError", words)
    )


def host_of(url: str) -> str:
    """The name of the host in `url`, without a port or a password."""
    return urlsplit(url).hostname or "the host"


def wraps(error: BaseException, kind: type[Exception]) -> bool:
    """Whether `error` is, or wraps, an error of this kind (requests wraps urllib3's)."""
    inner = [part for part in error.args if isinstance(part, Exception)]
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        inner.append(reason)
    return isinstance(error, kind) or any(wraps(part, kind) for part in inner)
