"""An HTTP proxy within the test's process that refuses, or breaks, whatever it is asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class HTTPProxy:
    """Gives each connection the same answer; an empty one breaks the connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        """The first line of each request."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
                    head += data
                self.asked.append(head.split(b"\r\n", 1)[0])
                if self._answer:
                    connection.sendall(self._answer)
                else:  # a reset instead of an orderly end
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
