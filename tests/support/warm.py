"""Commands in processes that have imported everything already (`warm_start`).

What most tests wait for is no start of a process, but what it does then. How people start a
process, with all its imports, is shown by the smoke tests and the fault lab.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from embed_star.devstack.processes import Child, Command
from embed_star.devstack.reaper import Reaper
from tests.support.warm_start import Job

CHECKOUT = Path(__file__).resolve().parents[2]
START_S = 60.0

_one_at_a_time = threading.Lock()


def can_become(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether this is a Python module, and the environment has nothing that Python reads first."""
    early = [name for name in env if name.startswith(("PYTHON", "LD_", "MALLOC"))]
    return list(argv[:2]) == [sys.executable, "-m"] and all(
        env[name] == os.environ.get(name) for name in early
    )


class WarmProcess:
    """As `subprocess.Popen`, of a process that is no child of this one."""

    def __init__(self, told: int, command: str) -> None:
        self._told, self._command = told, command
        self._text = ""
        self.pid = int(self._hear("pid", START_S))
        self.returncode: int | None = None

    def wait(self, timeout_s: float | None = None) -> int:
        """How it ended. Raises TimeoutError."""
        if self.returncode is None:
            self.returncode = int(self._hear("code", timeout_s))
            os.close(self._told)
        return self.returncode

    def _hear(self, word: str, timeout_s: float | None) -> str:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while "\n" not in self._text:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not select.select([self._told], [], [], left_s)[0]:
                raise TimeoutError(f"no {word} within {timeout_s:g} s: {self._command}")
            self._text += os.read(self._told, 1024).decode()
        line, _, self._text = self._text.partition("\n")
        assert line.startswith(f"{word} "), line
        return line.removeprefix(f"{word} ")


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: str,
    stdout: str,
    stderr: str,
    own_session: bool = False,
) -> WarmProcess:
    """Start `python -m …` with these files. Raises TimeoutError."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        os.mkfifo(told)
        heard = os.open(told, os.O_RDWR)  # also for writing: to open it waits for nobody
        job = Job(
            module=argv[2],
            arguments=tuple(argv[3:]),
            env=dict(env),
            cwd=str(Path.cwd()),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            told=str(told),
            own_session=own_session,
        )
        with _one_at_a_time:
            starter = _starter()
            assert starter.stdin is not None
            print(json.dumps(asdict(job)), file=starter.stdin, flush=True)
        return WarmProcess(heard, " ".join(argv[2:]))


class WarmChild(Child):
    """A `Child` that has imported everything: it is there in a moment."""

    def __init__(self, name: str, command: Command, log: Path, reaper: Reaper) -> None:
        self.name, self.log = name, log
        self.ended = threading.Event()
        self._reaper, self._on_end = reaper, None
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as output:
            self._log_start = os.fstat(output.fileno()).st_size
        self._process = start(  # type: ignore[assignment]
            command.argv,
            command.env,
            stdin=os.devnull,
            stdout=str(log),
            stderr=str(log),
            own_session=True,
        )
        reaper.watch(self.pid)
        threading.Thread(target=self._await_end, name=f"wait-{name}", daemon=True).start()


@functools.cache
def _starter() -> subprocess.Popen[str]:
    """One for each process of pytest's; it ends with that, as its standard input does."""
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    starter = subprocess.Popen(
        [sys.executable, "-m", "tests.support.warm_start"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    atexit.register(starter.communicate)
    return starter
