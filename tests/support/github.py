"""GitHub's API on loopback, with scripted answers, and a time that only sleeping moves."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    body: Any = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Promise more bytes than there are."""


class GitHubStub:
    """Gives its answers in order, the last one for ever; remembers what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Answer()]
        self.asked: list[tuple[str, dict[str, str]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                body = (
                    answer.body
                    if isinstance(answer.body, bytes)
                    else json.dumps(answer.body).encode()
                )
                self.send_response_only(answer.status)  # no Date: the client's clock is asked
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + 9 * answer.cut))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = answer.cut

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def next(self, page: int) -> dict[str, str]:
        return {"Link": f'<{self.url}/users/me/starred?per_page=100&page={page}>; rel="next"'}

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Clock:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.start = self.now
        self.shown: list[tuple[float, str]] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def slept_s(self) -> float:
        return round(self.now - self.start, 3)
