"""Real servers for tests: found or skipped, started in a directory of the test, all gone after."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_star.devstack import database
from embed_star.devstack.database import Engine
from embed_star.devstack.servers import LocalServers, ServerOptions

PROMPT_S = 15.0
"""No answer within it is a failure; nothing that is awaited here takes two seconds."""


def find_surreal() -> Path:
    """The SurrealDB server; without one the test is skipped, and in CI it fails."""
    if found := database.find_surreal(os.environ):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("CI needs a SurrealDB server: set SURREAL_BIN")
    pytest.skip("needs a SurrealDB server: put `surreal` on PATH or name it in SURREAL_BIN")


def local_servers(
    path: Path, engine: Engine = "server", *, memory: bool = True, redis: bool = True
) -> LocalServers:
    """Servers to be entered with `with`; `engine="server"` needs a SurrealDB (`find_surreal`)."""
    if engine == "server":
        find_surreal()
    return LocalServers(path, ServerOptions(engine=engine, memory=memory, redis=redis))


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie that merely waits for its parent."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached every thread of the process: not at once, on a busy machine."""
    states = [
        task.read_text().rpartition(") ")[2] for task in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return all(state.startswith("T") for state in states)


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on this port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = PROMPT_S) -> None:
    """Return once the condition holds, for what no event can be awaited; fail otherwise."""
    began = asked = time.monotonic()
    while not condition():
        now = time.monotonic()
        elapsed_s, asking_s = now - began, now - asked
        if elapsed_s >= timeout_s:
            pytest.fail(f"not within {timeout_s:g} s: {what}")
        # Asking takes the core from those who are waited for: the longer it lasts, the rarer, and
        # a question that is a whole command, no more than half of the time.
        time.sleep(max(asking_s, min(0.1, 0.02 + elapsed_s / 20)))
        asked = time.monotonic()
