"""Ends the processes of a stack when the stack itself is killed.

The reaper is a small process with the reading end of a pipe; only the stack has the other
end. When that end closes, or the reaper's parent changes, the stack is gone. PR_SET_PDEATHSIG
would not do: it is Linux only, it needs `preexec_fn`, which is unsafe beside threads, and it
fires when the forking *thread* ends. Pipes and process groups are POSIX.

The module is run as a script by its path (`python -I -S reaper.py`), so it imports
nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

GRACE_S = 5.0
"""From SIGTERM to SIGKILL. A worker may be killed: the database holds all that matters."""


class Reaper:
    """The stack's side of the reaper. Thread-safe.

    The reaper keeps the descriptor `lock` open until all processes have ended, so that a new
    stack cannot take the data directory while servers of the old one still use it.
    """

    def __init__(self, lock: int) -> None:
        self._lock_descriptor = lock
        self._mutex = threading.Lock()
        self._orders: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        """End the process group `pid` when this process dies."""
        self._order(f"group {pid}")

    def forget(self, pid: int) -> None:
        """The process group `pid` has ended. A second call changes nothing."""
        order = f"group {pid}"
        with self._mutex:
            if order in self._orders:
                self._orders.discard(order)
                self._send("-" + order)

    def sweep(self, path: Path) -> None:
        """Remove the file `path` when this process dies."""
        self._order(f"file {path}")

    def close(self) -> None:
        """End the reaper, and every process group that it still watches."""
        with self._mutex:
            self._close()
            self._orders.clear()

    def _order(self, order: str) -> None:
        with self._mutex:
            self._orders.add(order)
            self._send("+" + order)

    def _send(self, line: str) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._write(line)
                return
            self._close()  # somebody ended it: the next one is told everything
        self._process = subprocess.Popen(  # noqa: S603  our own file, with our own interpreter
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
            pass_fds=(self._lock_descriptor,),
        )
        for order in self._orders:
            self._write("+" + order)

    def _write(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018  for mypy
        os.write(self._process.stdin.fileno(), f"{line}\n".encode())

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
        self._process = None


def _serve() -> None:
    """The reaper's side: collect orders from standard input until the stack is gone."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    parent = os.getppid()
    orders: set[str] = set()
    rest = b""
    while True:
        # A process that the stack forked without exec may hold the pipe open: hence getppid.
        if not select.select([0], [], [], 1.0)[0]:
            if os.getppid() != parent:
                break
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            order = os.fsdecode(line[1:])
            (orders.add if line[:1] == b"+" else orders.discard)(order)
    _carry_out(orders)


def _carry_out(orders: set[str]) -> None:
    subjects = [order.partition(" ")[::2] for order in orders]
    groups = {int(subject) for kind, subject in subjects if kind == "group"}
    for kind, subject in subjects:
        if kind == "file":
            Path(subject).unlink(missing_ok=True)
    groups = {group for group in groups if _signal(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_S
    while groups and time.monotonic() < deadline:
        time.sleep(0.02)
        groups = {group for group in groups if _signal(group, 0)}
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, signum: int) -> bool:
    """Signal a process group; whether it exists (on macOS, EPERM means only zombies)."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    _serve()
