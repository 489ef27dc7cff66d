"""A child process: its log file, the wait until it is ready, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from embed_star.devstack.reaper import Reaper
from embed_star.errors import EmbedStarError

T = TypeVar("T")

_GATE = 'read -r go && exec "$@"'
"""The shell starts the program at the first line, once the reaper watches it. `read` takes only
that line, so the program finds the rest on its standard input."""

_POLL_S = 0.03


class StopRequested(Exception):
    """Control flow: the stack is to stop while it is starting."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program: its arguments, its whole environment, and its standard input.

    Secrets go into `env` or `stdin`, never into `argv`, which every user can list.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    stdin: str = field(default="", repr=False)


class Child:
    """A running program in its own session, so that Ctrl-C reaches only its parent.

    Its output is appended to `log`. When it ends, `ended` is set, and `on_end` is called from
    another thread.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        log: Path,
        reaper: Reaper,
        on_end: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.ended = threading.Event()
        self._reaper = reaper
        self._on_end = on_end
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            self._log_start = os.fstat(output.fileno()).st_size
            self._process = subprocess.Popen(  # noqa: S603  programs of our choice, no shell text
                ["/bin/sh", "-c", _GATE, "sh", *command.argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(command.env),
                start_new_session=True,
            )
        try:
            reaper.watch(self.pid)
            self._open_gate(command.stdin)
        except BaseException:
            self.kill()
            raise
        finally:
            threading.Thread(target=self._await_end, name=f"wait-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process, and of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Like `subprocess.Popen.returncode`; None while it runs."""
        return self._process.returncode if self.ended.is_set() else None

    def output(self) -> str:
        """Its output since it started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def describe_end(self) -> str:
        """How it ended, such as `exit code 3` or `killed by SIGKILL`."""
        code = self._process.returncode
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL to its group after `grace_s`. Returns when it has ended."""
        if grace_s > 0:
            self.terminate()
        self.finish(grace_s)

    def terminate(self) -> None:
        """Send SIGTERM, without waiting. Once only: a second one hurries Celery and SurrealDB."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def finish(self, wait_s: float) -> None:
        """Wait for its end; send SIGKILL to its group after `wait_s`."""
        if not self.ended.wait(max(0.0, wait_s)):
            self.kill()
        self.ended.wait()

    def kill(self) -> None:
        """Send SIGKILL to its group, without waiting. Takes no lock: safe in a signal handler."""
        if not self.ended.is_set():  # later, the id may be somebody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _open_gate(self, stdin: str) -> None:
        assert self._process.stdin is not None  # noqa: S101  for mypy
        with contextlib.suppress(BrokenPipeError), self._process.stdin as gate:
            gate.write(f"go\n{stdin}".encode())

    def _await_end(self) -> None:
        self._process.wait()
        self.kill()  # what it left behind in its group
        self._reaper.forget(self.pid)
        self.ended.set()
        if self._on_end is not None:
            self._on_end(self)


def stop_together(children: Sequence[Child], grace_s: float) -> None:
    """Stop all children together, within `grace_s`; with 0 by SIGKILL."""
    deadline_s = time.monotonic() + grace_s
    if grace_s > 0:
        for child in children:
            child.terminate()
    for child in children:
        child.finish(deadline_s - time.monotonic())


def await_ready(
    child: Child,
    probe: Callable[[], T | None],
    timeout_s: float,
    aborted: Callable[[], bool] = lambda: False,
) -> T | None:
    """The first result of `probe` that is not None; None when the child ended before.

    Raises EmbedStarError after `timeout_s`, StopRequested as soon as `aborted()`.
    """
    deadline_s = time.monotonic() + timeout_s
    while not child.ended.is_set():
        if (answer := probe()) is not None:
            return answer
        if aborted():
            raise StopRequested
        if time.monotonic() >= deadline_s:
            raise EmbedStarError(
                f"{child.name} was not ready within {timeout_s:g} s; its log is {child.log}"
            )
        child.ended.wait(_POLL_S)
    return None
