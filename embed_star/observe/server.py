"""An HTTP server for /metrics, /livez and /readyz, in threads of its own."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from embed_star.errors import ConfigError
from embed_star.observe.health import ProbeResult

log = structlog.get_logger(__name__)

CONNECTIONS = 16
"""Open at once; one more closes the oldest. An honest scrape takes milliseconds."""
SILENCE_S = 5.0
"""The longest wait for the next byte of a request."""

Probe = Callable[[], ProbeResult]


class MonitoringServer:
    """Call `bind`, `serve` and `close` once each, in this order. No client can block it."""

    def __init__(self, registry: CollectorRegistry, *, live: Probe, ready: Probe) -> None:
        self._app = _App(registry, {"/livez": live, "/readyz": ready})
        self._server: _Server | None = None
        self._serving = False

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before `bind`."""
        return self._server.server_port if self._server else 0

    def bind(self, host: str, port: int) -> None:
        """Take the port. Raises ConfigError when that fails."""
        try:
            self._server = _Server(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"MONITORING_PORT: port {port} is taken; give each process of this machine "
                    "its own, or 0 for none"
                ) from None
            raise ConfigError(
                "MONITORING_HOST, MONITORING_PORT: cannot listen on "
                f"{host}, port {port}: {os.strerror(error.errno or 0)}"
            ) from None
        self._server.set_app(self._app)

    def serve(self) -> None:
        """Answer until `close`."""
        assert self._server is not None  # noqa: S101 - bound before
        self._serving = True
        threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True).start()
        log.info("monitoring", port=self.port)

    def close(self) -> None:
        """Give the port back. Twice changes nothing."""
        server, self._server = self._server, None
        if server is not None:
            if self._serving:
                server.shutdown()
            server.server_close()

    def forget(self) -> None:
        """Close the parent's socket in a forked child; the parent goes on to listen."""
        if self._server is not None:
            self._server.socket.close()
            self._server = None


class _App:
    """The WSGI application. It answers an error of its own with 500."""

    def __init__(self, registry: CollectorRegistry, probes: dict[str, Probe]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._probes = probes

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        environ = {**environ, "REQUEST_METHOD": "GET"}  # prometheus_client knows no HEAD
        try:
            status, headers, body = self._answer(method, path, environ)
        except Exception:
            log.exception("monitoring_failed", path=path)
            status, headers, body = _plain("500 Internal Server Error", "see the log\n")
        start(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _answer(self, method: str, path: str, environ: WSGIEnvironment) -> _Response:
        if path != "/metrics" and path not in self._probes:
            return _plain("404 Not Found", "there are /metrics, /livez and /readyz\n")
        if method not in ("GET", "HEAD"):
            status, headers, body = _plain("405 Method Not Allowed", "GET or HEAD\n")
            return status, [*headers, ("Allow", "GET, HEAD")], body
        if path == "/metrics":
            return self._exposition(environ)
        answer = self._probes[path]()
        status = "200 OK" if answer.ok else "503 Service Unavailable"
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        return status, headers, json.dumps(answer.body).encode() + b"\n"

    def _exposition(self, environ: WSGIEnvironment) -> _Response:
        began: list[Any] = []
        body = b"".join(self._metrics(environ, lambda *started: began.extend(started)))
        return began[0], began[1], body


_Response = tuple[str, list[tuple[str, str]], bytes]


def _plain(status: str, text: str) -> _Response:
    return status, [("Content-Type", "text/plain; charset=utf-8")], text.encode()


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Log nothing: probes come every few seconds."""


class _Server(ThreadingWSGIServer):
    """A thread for each connection, and no more than `CONNECTIONS`."""

    request_queue_size = CONNECTIONS

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._opening = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind as `http.server` does, without a DNS query for the address' name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._opening:
            if len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _cut_off(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._opening:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that is slow, gone or talks nonsense."""
        del request
        log.debug("monitoring_client_failed", client=str(client_address))


def _cut_off(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client has closed it
        return
