"""Commands as people run them: a process, its exit code and what it printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import warm

EMBED_STAR = (sys.executable, "-m", "embed_star.cli.main")
CELERY = (sys.executable, "-m", "celery", "-A", "embed_star")
COMMAND_S = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str

    def assert_worked(self) -> str:
        """It did, and without a word on stderr; what it printed."""
        assert (self.code, self.err) == (0, ""), f"exit code {self.code}: {self.err}"
        return self.out

    def assert_one_sentence(self, *names: str) -> None:
        """It failed, and said why: one line on stderr that contains each of `names`."""
        assert self.code > 0, f"exit code {self.code}: {self.out}"
        lines = self.err.splitlines()
        assert len(lines) == 1, f"not one line on stderr: {self.err}"
        assert lines[0].startswith("embed-star: "), lines[0]
        for name in names:
            assert name in lines[0], f"no {name!r} in: {lines[0]}"
        assert "Traceback" not in self.out

    def assert_keeps(self, *secrets: str) -> None:
        """None of these was printed."""
        printed = self.out + self.err
        assert not [one for one in secrets if one in printed], printed


def run(
    *argv: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout_s: float = COMMAND_S,
) -> Finished:
    """Run a program to its end, `env` on top of this process's environment."""
    done = subprocess.run(
        argv,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def embed_star(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Finished:
    """Run `embed-star` with these arguments, in a process that has imported everything."""
    return run_warm(*EMBED_STAR, *arguments, env=env, stdin=stdin)


def celery(*arguments: str, env: Mapping[str, str] | None = None) -> Finished:
    """Run `celery -A embed_star` with these arguments, in a process like that."""
    return run_warm(*CELERY, *arguments, env=env)


def run_warm(*argv: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Finished:
    """`run` for `python -m …`, in a tenth of its time: its process has imported everything."""
    whole = {**os.environ, "COLUMNS": "200", **(env or {})}
    if not warm.can_become(argv, whole):
        return run(*argv, env=env, stdin=stdin)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").write_bytes(stdin)
        files = {f"std{one}": str(folder / one) for one in ("in", "out", "err")}
        process = warm.start(argv, whole, **files)
        try:
            code = process.wait(COMMAND_S)
        except TimeoutError:
            os.kill(process.pid, signal.SIGKILL)
            raise
        out, err = ((folder / one).read_text() for one in ("out", "err"))
    return Finished(code, out, err)
