"""A provider that does what it is told, over real HTTP, in a process of its own.

    python -m tests.support.scripted_provider --port 0 --dimensions 768 --latency-ms 300

prints `listening on http://127.0.0.1:PORT` and serves OpenAI's `/v1/embeddings`, Ollama's
`/api/embed` and Cohere's `/v2/embed`. `POST /script` changes its behaviour (the fields of
`Script`), `POST /reset` undoes that and forgets, `GET /ledger` tells each request that it got,
`GET /stats` the counts. `--instant` answers from a pool of vectors made beforehand and
keeps no ledger unless told where: for benchmarks, where it must cost next to nothing.
`ScriptedProvider` runs it for tests.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.scripted_answers import Script, vector_for
from tests.support.scripted_server import PATHS, Answer, Server

__all__ = ["ScriptedProvider", "vector_for"]


class Connection(asyncio.Protocol):
    """One kept-alive connection: enough of HTTP/1.1 for requests, curl and http.client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._asked = False
        self._transport: Any = None
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if self._busy or end < 0:
            return
        head = bytes(self._buffer[:end])
        at = head.lower().find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self._dispatch(method, path, head, body)

    def _dispatch(self, method: str, path: str, head: bytes, body: bytes) -> None:
        server = self._server
        if method != "POST" or path not in PATHS:
            self._send(server.control(method, path, body), None)
            return
        self._busy = True
        server.stats["connections"] += not self._asked
        self._asked = True
        stats = server.stats
        stats["concurrent"] += 1
        stats["max_concurrent"] = max(stats["max_concurrent"], stats["concurrent"])
        answer, fault = server.embed(path, head, body)
        # A server that is asked too much at once says so before it does anything.
        is_busy = answer.status == 429 and bool(server.script.most_at_once)
        latency_s = 0.0 if is_busy else server.latency_s() + server.loading_s()
        if latency_s:
            self._later(latency_s, lambda: self._loaded(answer, fault))
        else:
            self._send(answer, fault)

    def _loaded(self, answer: Answer, fault: str | None) -> None:
        self._server.has_loaded = True  # but not if its connection was lost by now
        self._send(answer, fault)

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, what)

    def _done(self) -> None:
        if self._busy:
            self._busy = False
            self._server.stats["concurrent"] -= 1

    def _send(self, answer: Answer, fault: str | None) -> None:
        if fault is None:
            self._transport.writelines((answer.head(), answer.body))
            self._done()
            self._next()
        else:
            self._misbehave(answer, fault)

    def _misbehave(self, answer: Answer, fault: str) -> None:
        write, close = self._transport.write, self._transport.close
        body, half = answer.body, len(answer.body) // 2
        plain = {
            "html": Answer(200, b"<html>Bad gateway</html>", ("content-type", "text/html")),
            "empty_object": Answer(200, b"{}"),
            "array": Answer(200, b"[1]"),
            "not_json": Answer(200, b"later, perhaps"),
            "torn_json": Answer(200, body[:half]),
            "bad_gzip": Answer(200, b"noise" * 50, ("content-encoding", "gzip")),
            "redirect": Answer(307, b"", ("location", self._server.script.location)),
        }
        if fault in plain:
            self._send(plain[fault], None)
        elif fault in ("gzip", "gzip_bomb"):
            packed = gzip.compress(body if fault == "gzip" else b" " * (80 << 20))
            self._send(Answer(200, packed, ("content-encoding", "gzip")), None)
        elif fault == "drip":
            write(answer.head())
            self._drip(iter(body))
        elif fault == "drip_headers":
            self._drip(iter(answer.head() + body))
        elif fault == "giant":
            write(answer.head(10**12) + body)
        elif fault == "giant_chunked":
            write(Answer(200, b"", ("transfer-encoding", "chunked")).head())
            self._flood()
        elif fault == "truncated":
            write(answer.head() + body[:half])
            close()
        elif fault in ("reset", "crash"):
            close()
        # "hang": nothing, for ever

    def _drip(self, data: Any) -> None:
        byte = next(data, None)
        if byte is not None and not self._transport.is_closing():
            self._transport.write(bytes([byte]))
            self._later(self._server.script.drip_s, lambda: self._drip(data))

    def _flood(self) -> None:
        if not self._transport.is_closing():
            if self._transport.get_write_buffer_size() < 1 << 20:
                self._transport.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            self._later(0.001, self._flood)


async def serve(server: Server, host: str, port: int, until_stdin_closes: bool) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), host, port, backlog=512)
    port = listener.sockets[0].getsockname()[1]
    sys.stdout.write(f"listening on http://{host}:{port}\n")
    sys.stdout.flush()
    if not until_stdin_closes:
        await listener.serve_forever()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--latency-sigma", type=float, default=0.0)
    parser.add_argument("--ledger", type=Path, help="file that each request is appended to")
    parser.add_argument("--instant", action="store_true", help="vectors from a pool, no ledger")
    parser.add_argument("--until-stdin-closes", action="store_true", help="die with the parent")
    given = parser.parse_args()
    script = Script(
        dimensions=given.dimensions,
        latency_ms=given.latency_ms,
        latency_sigma=given.latency_sigma,
    )
    # A line at a time: what was served is on disk even if this process is killed.
    ledger = given.ledger.open("a", buffering=1) if given.ledger else None
    server = Server(script, given.instant, ledger)
    asyncio.run(serve(server, given.host, given.port, given.until_stdin_closes))


class ScriptedProvider:
    """The provider as a process, for a `with` block. It dies with this process."""

    def __init__(self, *arguments: str) -> None:
        """`arguments` of the command line, such as "--dimensions", "8"."""
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's API."""
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        """The process that answers."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, "--until-stdin-closes", *self._arguments],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith("listening on "):
            self.__exit__(None, None, None)
            raise RuntimeError("the scripted provider did not start")
        self.url = line.removeprefix("listening on ").strip()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def script(self, **changes: Any) -> None:
        """Change the fields of its `Script`; ValueError for what it does not know."""
        self._call("POST", "/script", changes)

    def reset(self) -> None:
        """As it was at the start, with an empty ledger."""
        self._call("POST", "/reset")

    def ledger(self) -> list[dict[str, Any]]:
        """Every embeddings request since the start or the last reset, oldest first."""
        entries: list[dict[str, Any]] = self._call("GET", "/ledger")
        return entries

    def asked(self) -> list[dict[str, Any]]:
        """As `ledger`, without the requests for our own text."""
        # Here, so that the process that serves starts without all of embed_star.
        from embed_star.calling.gateway import PROBE_TEXT

        return [one for one in self.ledger() if one["texts"] != [PROBE_TEXT]]

    def stats(self) -> dict[str, int]:
        """`connections` used, `calls`, `texts`, `concurrent` now and `max_concurrent`."""
        counts: dict[str, int] = self._call("GET", "/stats")
        return counts

    def _call(self, method: str, path: str, payload: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, json.dumps(payload) if payload else None)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(body["error"])
        return body


if __name__ == "__main__":
    main()
