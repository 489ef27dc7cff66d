"""A TCP proxy within the test's process: traffic that stops, connections that break."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards to one port. `freeze` stops the traffic and keeps the connections open."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._stranded: list[threading.Event] = []
        self._closed = False
        self._sockets: list[socket.socket] = []
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """What is sent from now on arrives nowhere, on new connections too."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let go on, with what was sent meanwhile."""
        self._flows.set()

    def strand(self) -> None:
        """As `freeze`, for good, for the connections that there are; new ones are served."""
        self._flows.clear()
        self._stranded.append(self._flows)
        self._flows = threading.Event()
        self._flows.set()

    def cut(self) -> None:
        """Break every connection there is."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._listener.close()
        for flows in (self._flows, *self._stranded):
            flows.set()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                continue
            self.accepted += 1
            self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                pump = threading.Thread(target=_pump, args=(*ends, self._flows), daemon=True)
                pump.start()


def _pump(source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            flows.wait()
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
