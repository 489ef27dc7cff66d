"""The decisions of the scripted provider: what each request gets. Knows no sockets."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections import deque
from typing import IO, Any

from tests.support.scripted_answers import (
    Script,
    cohere_body,
    ollama_body,
    openai_body,
    rendered,
    spoilt,
)

REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests"}


PATHS = ("/v1/embeddings", "/api/embed", "/v2/embed")
"""OpenAI's, Ollama's, Cohere's."""

STATS = ("connections", "calls", "texts", "concurrent", "max_concurrent")
UNPAID = ("refused", "crash", "redirect", "html", "empty_object", "array", "not_json")
"""Faults in which nothing was computed."""


class Answer:
    """One answer: what to send, and how."""

    def __init__(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    def head(self, length: int | None = None) -> bytes:
        lines = [b"HTTP/1.1 %d %b" % (self.status, REASONS.get(self.status, b"Scripted"))]
        named = {"content-type": "application/json", **dict(self.headers)}
        if "transfer-encoding" not in named:
            named["content-length"] = str(len(self.body) if length is None else length)
        lines += [f"{name}: {value}".encode() for name, value in named.items()]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class Server:
    """The state of one provider, and its decisions. Knows nothing of sockets."""

    def __init__(self, script: Script, instant: bool, ledger: IO[str] | None) -> None:
        self._initial = self.script = script
        self._instant = instant
        self._file = ledger
        self.reset()

    def reset(self) -> None:
        self.script = self._initial
        self.entries: list[dict[str, Any]] = []
        self.stats = dict.fromkeys(STATS, 0)
        self.has_loaded = False
        self._recent: deque[float] = deque()
        self._turns: list[float] = []
        self._dice = random.Random(7)  # noqa: S311 - to be the same each time
        self._latencies = random.Random(7)  # noqa: S311 - a series of its own

    def latency_s(self) -> float:
        """How long the next answer takes, in seconds: the same series after each reset."""
        script = self.script
        factor = math.exp(self._latencies.gauss(0, script.latency_sigma))
        return self._wait_s(script.latency_ms / 1000 * factor)

    def _wait_s(self, works_s: float) -> float:
        """How long a call takes whose work takes `works_s`, with the wait for its turn."""
        if not self.script.serves:
            return works_s
        now = time.monotonic()
        self._turns = sorted(at for at in self._turns if at > now)
        ahead = self._turns[-self.script.serves :]
        ends = works_s + (ahead[0] if len(ahead) == self.script.serves else now)
        self._turns.append(ends)
        return ends - now

    def loading_s(self) -> float:
        """How long whoever asks now waits for the model, in seconds."""
        return 0.0 if self.has_loaded else self.script.loads_ms / 1000

    def control(self, method: str, path: str, body: bytes) -> Answer:
        """Answer a request that is no embedding."""
        if (method, path) == ("GET", "/ledger"):
            return Answer(200, json.dumps(self.entries).encode())
        if (method, path) == ("GET", "/stats"):
            return Answer(200, json.dumps(self.stats).encode())
        if (method, path) == ("POST", "/reset"):
            self.reset()
            return Answer(200, b"{}")
        if (method, path) == ("POST", "/script"):
            try:
                self.script = self.script.changed(json.loads(body))
            except ValueError as error:
                return Answer(400, json.dumps({"error": str(error)}).encode())
            return Answer(200, b"{}")
        return Answer(404, b"404 page not found", ("content-type", "text/plain"))

    def embed(self, path: str, head: bytes, body: bytes) -> tuple[Answer, str | None]:
        """The answer to an embeddings request, and the fault to send it with."""
        request = json.loads(body)
        given = request["texts" if path == "/v2/embed" else "input"]
        texts = [given] if isinstance(given, str) else given
        self.stats["calls"] += 1
        self.stats["texts"] += len(texts)
        answer = self._refuse(path, head, request, texts)
        fault = "refused" if answer is not None and answer.status == 200 else None
        if answer is None:
            fault = self._next_fault(texts)
            answer = self._compute(path, request, texts)
        self._record(path, request, texts, answer.status, fault or self._spoiled())
        return answer, None if fault == "refused" else fault

    def _spoiled(self) -> str | None:
        """What makes a whole answer useless that is sent without a fault."""
        script, usual = self.script, self._initial
        for name in ("dimensions", "salt", "count_delta", "vectors_max", "indexes"):
            if getattr(script, name) != getattr(usual, name):
                return name
        return "bad_vectors" if "" in script.bad_vectors.values() else None

    def _refuse(
        self, path: str, head: bytes, request: dict[str, Any], texts: list[str]
    ) -> Answer | None:
        script = self.script
        if script.auth is not None and f"Bearer {script.auth}\r\n".encode() not in head + b"\r\n":
            return self._failure(path, 401, "invalid_api_key")
        if 0 < script.most_at_once < self.stats["concurrent"]:
            return self._failure(path, 429, "rate_limit_exceeded", script.retry_after)
        if script.requests_per_minute and (wait_s := self._throttle(script.requests_per_minute)):
            return self._failure(path, 429, "rate_limit_exceeded", str(math.ceil(wait_s)))
        if script.fail_next:
            self.script = script.changed({"fail_next": max(script.fail_next - 1, -1)})
            return self._failure(path, script.status, "scripted", script.retry_after)
        if 0 < script.throttle_over < sum(map(len, texts)):
            return self._failure(path, 429, "rate_limit_exceeded", script.retry_after)
        if script.poison is not None and any(script.poison in text for text in texts):
            return self._failure(path, script.poison_status, "invalid_request")
        if script.encoding_format == "refuse" and "encoding_format" in request:
            error = {"message": "unknown field", "param": "encoding_format", "code": 400}
            status, body = script.refusal or (400, {"error": error})
            if isinstance(body, str):
                return Answer(status, body.encode(), ("content-type", "text/plain"))
            return Answer(status, json.dumps(body).encode())
        return None

    def _failure(self, path: str, status: int, code: str, retry_after: str | None = None) -> Answer:
        own = {"message": f"scripted {status}", "type": code, "code": code, "param": None}
        error = {"error": own["message"] if path == "/api/embed" else own}
        body = json.dumps(error if self.script.error is None else self.script.error).encode()
        headers = [("retry-after", retry_after)] if retry_after is not None else []
        headers += self.script.headers.items()
        if isinstance(self.script.error, str):
            page = self.script.error.encode()
            return Answer(status, page, ("content-type", "text/html"), *headers)
        return Answer(status, body, *headers)

    def _throttle(self, per_minute: int) -> float:
        """Seconds until there is room, 0 if this request may go."""
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= per_minute:
            return self._recent[0] + 60 - now
        self._recent.append(now)
        return 0.0

    def _next_fault(self, texts: list[str]) -> str | None:
        script = self.script
        if script.crash is not None and any(script.crash in text for text in texts):
            return "crash"
        if self._dice.random() < script.flaky:
            return "crash"
        if script.fault is None or not script.fault_next:
            return None
        self.script = script.changed({"fault_next": max(script.fault_next - 1, -1)})
        return script.fault

    def _compute(self, path: str, request: dict[str, Any], texts: list[str]) -> Answer:
        script = self.script
        asked = request.get("encoding_format") == "base64"
        packed = {"honour": "<f4", "double": "<f8"}.get(script.encoding_format, "") if asked else ""
        shortens = script.shortens
        if shortens is None:
            shortens = script.dimensions == self._initial.dimensions
        if "dimensions" in request and shortens:
            script = script.changed({"dimensions": request["dimensions"]})
        values = rendered(texts, script, packed, self._instant)
        if asked:
            values = spoilt(values, script.encoding_format)
        if script.count_delta:
            values = (values + values)[: len(texts) + script.count_delta]
        if script.vectors_max:
            values = values[: script.vectors_max]
        model = request["model"] if script.model is None else script.model
        tokens = sum(map(len, texts)) // 4 + len(texts)
        if path == "/api/embed":
            return Answer(200, ollama_body(model, values, tokens))
        if path == "/v2/embed":
            return Answer(200, cohere_body(values, tokens))
        return Answer(200, openai_body(model, values, tokens, script))

    def _record(
        self, path: str, request: dict[str, Any], texts: list[str], status: int, fault: str | None
    ) -> None:
        if self._instant and self._file is None:
            return
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        entry = {
            "at": time.time(),
            "path": path,
            "model": request["model"],
            "options": {k: v for k, v in request.items() if k not in ("model", "input", "texts")},
            "status": status,
            "fault": fault,
            # What was computed is charged for, whatever became of the answer.
            "paid": status == 200 and fault not in UNPAID,
            "texts": texts,
            "sha256": [hashlib.sha256(text).hexdigest() for text in encoded],
        }
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
