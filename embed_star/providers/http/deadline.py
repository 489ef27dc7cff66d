"""Bounds of a call, and connections whose every read and write keeps to its deadline.

A read time-out bounds one silence: a server that sends a byte a second, in its headers
or its body, would hold a thread for hours. Here each read and write of a socket gets
what is left of the call's deadline, so no layer above (headers, chunks, gzip) can wait
longer.

Not covered: resolving the name (the resolver's own time-outs) and a name with several
dead addresses (the connect time-out applies to each).
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from embed_star.errors import ProviderConfigError
from embed_star.providers.ssrf import is_refused

if TYPE_CHECKING:
    from urllib3 import ProxyManager

    from embed_star.settings import Settings


RESPONSE_BYTES = 64 * 1024 * 1024
"""Largest answer: 2,048 vectors of 1,536 numbers as text; an answer that never ends is more."""

NUMBER_BYTES = 64
"""Most bytes of one number in an answer: 17 digits, an exponent, and a line of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call."""

    connect_s: float
    read_s: float
    """Longest silence of the server, and longest wait until a connection takes more bytes."""
    total_s: float
    response_bytes: int
    """Largest answer, counted after decompression."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        batch_bytes = settings.batch_rows * settings.dimensions * NUMBER_BYTES
        return cls(
            connect_s=settings.timings.connect_s,
            read_s=settings.timings.silence_s,
            total_s=settings.timings.call_s,
            response_bytes=max(RESPONSE_BYTES, batch_bytes),
        )


@dataclass(eq=False, slots=True)
class Deadline:
    """When a call ends, on the monotonic clock, and how long a silence in it may last."""

    ends_at: float
    silence_s: float
    was_aborted: bool = False
    _sock: Any = None

    @classmethod
    def of(cls, limits: Limits, *, patient: bool = False) -> Deadline:
        """The deadline of a call that begins now; a `patient` call may be silent until it ends."""
        silence_s = limits.total_s if patient else limits.read_s
        return cls(time.monotonic() + limits.total_s, silence_s)

    def remaining_s(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self.ends_at - time.monotonic())

    def apply(self, sock: Any) -> None:
        """Limit the next operation on `sock` to the time left. Raises TimeoutError when none is."""
        left = self.remaining_s()
        if not left:
            raise TimeoutError("the deadline of the call has passed")
        self._sock = sock
        sock.settimeout(min(self.silence_s, left))

    def abort(self) -> None:
        """End the call now, also an operation under way in another thread."""
        self.was_aborted, self.ends_at = True, 0.0
        if isinstance(self._sock, socket.socket):
            with suppress(OSError):
                # Not `self._sock.shutdown`: over TLS, that takes the session from under
                # whoever reads.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


_current: ContextVar[Deadline | None] = ContextVar("embed_star_deadline", default=None)


@contextmanager
def in_force(deadline: Deadline) -> Iterator[None]:
    """Everything that this thread sends and receives in the block ends by `deadline`."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def _apply(sock: Any) -> None:
    deadline = _current.get()
    if deadline is not None:
        deadline.apply(sock)


class _File(io.RawIOBase):
    """The reading side of a socket, with the deadline put before each `recv`."""

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _apply(self._sock)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Socket:
    """The part of a socket that `HTTPResponse` uses: a file to read."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, *_: Any, **__: Any) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_File(self._sock)))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast("socket.socket", _Socket(sock)), *args, **kwargs)


class _Connection(HTTPConnection):
    response_class = _Response  # of http.client: what reads status, headers and body

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _apply(self.sock)
        super().send(data)

    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _TLSConnection(HTTPSConnection):
    response_class = _Response

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _apply(self.sock)
        super().send(data)

    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


def _checked(sock: socket.socket) -> socket.socket:
    """`sock`, unless an allowed name resolved to a refused address."""
    if is_refused(str(sock.getpeername()[0])):
        sock.close()
        raise ProviderConfigError(
            "the provider's name leads to a link-local or metadata address, "
            "where no embedding server is; correct its URL or the name server"
        )
    return sock


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class DeadlineAdapter(HTTPAdapter):
    """requests' adapter over these connections: one host, no retries of its own."""

    def __init__(self, pool_size: int) -> None:
        # Not blocking: a thread more than the pool holds opens a connection of its own
        # instead of waiting, without a limit, for another's.
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # SOCKS has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager
