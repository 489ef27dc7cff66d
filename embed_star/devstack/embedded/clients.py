"""The gateway's connections, and how much a connection may send before it has signed in."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.server import ServerProtocol

MAX_FRAME_BYTES = 64 * 2**20
MAX_STRANGER_FRAME_BYTES = 4096
"""From a client that has not signed in: its frame is decoded before anything is known of the
sender, and 16 MiB of CBOR made 1.2 GB of Python."""
MAX_STRANGERS = 64
"""Connections that have not signed in, counted from the moment when they are made."""


class Client(ServerConnection):
    """One connection. Before it has signed in, it is one of few and may send little."""

    def __init__(self, strangers: set[Client], protocol: ServerProtocol, *more: Any, **named: Any):
        super().__init__(protocol, *more, **named)
        self._strangers = strangers
        self.signed_in = False

    @property
    def signed_in(self) -> bool:
        return self not in self._strangers

    @signed_in.setter
    def signed_in(self, signed_in: bool) -> None:
        (self._strangers.discard if signed_in else self._strangers.add)(self)
        most = MAX_FRAME_BYTES if signed_in else MAX_STRANGER_FRAME_BYTES
        self.protocol.max_message_size = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._strangers) > MAX_STRANGERS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.discard(self)
        super().connection_lost(exc)
