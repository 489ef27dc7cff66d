"""Toxiproxy: a proxy for each link of a process, to be cut, silenced or slowed.

The program comes with `make tools`. Its HTTP API is small enough to be asked directly.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pytest
import requests

from embed_star.devstack.servers import free_port
from tests.support.servers import eventually, is_listening

PROGRAM = Path(__file__).parents[2] / ".tools" / "server"

_PORTS = range(11_000, 31_000)
"""Below those that the system gives to outgoing connections: a port that is closed for a
while must not be taken meanwhile, nor be connected to itself."""
_BIND_TRIES = 20

Direction = Literal["upstream", "downstream"]
"""Upstream is from our process to the server, downstream back from it."""


class Link:
    """One process's way to one server. What is done to it lasts until `mend`."""

    def __init__(self, toxiproxy: Toxiproxy, name: str, own_port: int) -> None:
        self._toxiproxy = toxiproxy
        self._name = name
        self.port = own_port
        """Where the process connects to."""

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._change(enabled=False)

    def silence(self) -> None:
        """Half-open: what is sent vanishes, connections stay, new ones are silent too."""
        for direction in ("upstream", "downstream"):
            self._poison("timeout", direction, timeout=0)

    def delay(self, seconds: float, direction: Direction = "downstream") -> None:
        """Whatever is sent in `direction` arrives so much later."""
        self._poison("latency", direction, latency=round(seconds * 1000))

    def reset(self) -> None:
        """Connections are reset (RST) as soon as something is sent."""
        self._poison("reset_peer", "downstream", timeout=0)

    def truncate(self, answer_bytes: int) -> None:
        """A connection closes after so many bytes of answers."""
        self._poison("limit_data", "downstream", bytes=answer_bytes)

    def mend(self) -> None:
        """As it was made. Connections that were silenced break."""
        for toxic in self._toxics():
            self._toxiproxy.call("DELETE", f"/proxies/{self._name}/toxics/{toxic}")
        self._change(enabled=True)

    def lead_to(self, port: int) -> None:
        """Break every connection; new ones lead to this port."""
        self._change(upstream=f"127.0.0.1:{port}")

    def remove(self) -> None:
        """Break every connection, for good."""
        self._toxiproxy.call("DELETE", f"/proxies/{self._name}")

    def _toxics(self) -> list[str]:
        found = self._toxiproxy.call("GET", f"/proxies/{self._name}")["toxics"]
        return [one["name"] for one in found]

    def _change(self, **fields: Any) -> None:
        self._toxiproxy.call("POST", f"/proxies/{self._name}", **fields)

    def _poison(self, kind: str, direction: str, **attributes: int) -> None:
        if f"{kind}_{direction}" in self._toxics():  # two faults at once that do the same
            return
        self._toxiproxy.call(
            "POST",
            f"/proxies/{self._name}/toxics",
            type=kind,
            stream=direction,
            attributes=attributes,
        )


class Toxiproxy:
    """The program, for a `with` block."""

    def __init__(self) -> None:
        if not PROGRAM.exists():
            pytest.fail("the fault lab needs toxiproxy: run `make tools`")
        self._url = ""
        self._session = requests.Session()
        self._session.trust_env = False
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        port = free_port()
        self._process = subprocess.Popen(
            [PROGRAM, "-host", "127.0.0.1", "-port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_listening(port), "toxiproxy listens")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._session.close()

    def link(self, name: str, port: int) -> Link:
        """A new way to a server's port."""
        name = f"{name}-{next(self._numbers)}"
        for _ in range(_BIND_TRIES):
            own = random.choice(_PORTS)  # noqa: S311 - no secret
            if not is_listening(own):
                fields = {"listen": f"127.0.0.1:{own}", "upstream": f"127.0.0.1:{port}"}
                with suppress(RuntimeError):  # somebody took it meanwhile
                    self.call("POST", "/proxies", name=name, enabled=True, **fields)
                    return Link(self, name, own)
        raise RuntimeError("toxiproxy found no free port")

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = self._session.request(method, self._url + path, json=body or None, timeout=10)
        if not answer.ok:
            raise RuntimeError(f"toxiproxy: {answer.text}")
        return answer.json() if answer.content else None
