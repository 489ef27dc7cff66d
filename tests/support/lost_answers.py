"""A TCP proxy before Redis that loses answers: the command is carried out, and nobody hears."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class LostAnswers:
    """Forwards to one port; `lose` makes it break the connection in place of an answer.

    Of a client that talks in one round trip after the other, as redis-py's does.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._one_at_a_time = threading.Lock()
        self._word = b""
        self._left = 0
        self.lost = 0
        """Answers that nobody heard."""
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, word: bytes, times: int = 1) -> None:
        """Lose the next `times` answers to what contains `word`."""
        with self._one_at_a_time:
            self._word, self._left = word, times

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        for one in self._sockets:
            _close(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while asked := client.recv(1 << 20):
                server.sendall(asked)
                answer = server.recv(1 << 20)
                if self._is_to_be_lost(asked, answer):
                    break
                client.sendall(answer)
        for one in (client, server):
            _close(one)

    def _is_to_be_lost(self, asked: bytes, answer: bytes) -> bool:
        with self._one_at_a_time:
            # A script that Redis does not know yet has not run: it is loaded and asked again.
            if not self._left or self._word not in asked or answer.startswith(b"-"):
                return False
            self._left -= 1
            self.lost += 1
            return True


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
