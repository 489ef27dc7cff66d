"""Server-side request forgery: a provider may have any address but a cloud's metadata.

Link-local and metadata addresses hand out a machine's credentials to whoever asks, and
no embedding server lives there. Loopback and private addresses are fine: Ollama, vLLM.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from embed_star.errors import ConfigError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; 169.254.169.254 is AWS, Google, Azure, …
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # AWS over IPv6
        "fd00:ec2::23/128",  # AWS over IPv6: credentials of EKS pods
        "fd20:ce::254/128",  # Google over IPv6
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host agent
        "192.0.0.192/32",  # Oracle
    )
)
_REFUSED_NAMES = ("metadata", "metadata.google.internal", "metadata.goog", "instance-data")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_base_url(url: str, setting: str) -> None:
    """Raise ConfigError, naming `setting`, unless `url` is fit as the base of an API."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{setting} is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{setting} must be a URL that begins with http:// or https://")
    if parts.query or parts.fragment:
        raise ConfigError(f"{setting} must end before any ? or #: a path is put behind it")
    if is_refused(host):
        raise ConfigError(
            f"{setting} is a link-local or metadata address, where no embedding server is; "
            "set it to the provider's own address"
        )


def is_refused(host: str) -> bool:
    """Whether `host`, a name or an address in any spelling, is link-local or metadata.

    A name is not resolved here; the connection asks again with the address it reached.
    """
    # IDNA turns full-width digits and the ideographic full stop (U+3002) into plain ones:
    # an address in those connects to the metadata service too.
    plain = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".")
    plain = plain.strip("[]").partition("%")[0].rstrip(".").lower()
    if plain in _REFUSED_NAMES or plain.endswith(".metadata.google.internal"):
        return True
    address = _parse(plain)
    return address is not None and any(
        each in network
        for each in _embedded(address)
        for network in _REFUSED_NETWORKS
        if each.version == network.version
    )


def _parse(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # The C library's reading, which connecting uses too: 2852039166, 0xa9fea9fe,
        # 0251.0376.0251.0376 and 169.254.43518 are all 169.254.169.254.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):  # ValueError: an embedded NUL
        return None


def _embedded(address: IPAddress) -> Iterator[IPAddress]:
    """The address, and the IPv4 address within it if it is an IPv6 form of one."""
    yield address
    if not isinstance(address, ipaddress.IPv6Address):
        return
    for inner in (address.ipv4_mapped, address.sixtofour):
        if inner is not None:
            yield inner
    if address in _NAT64 or int(address) >> 32 == 0:  # the second: ::169.254.169.254
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
