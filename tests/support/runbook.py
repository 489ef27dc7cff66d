"""Runbooks as people follow them: their commands are typed, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
OVER_S = 60.0
COMMAND_S = 60.0

_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command, and the lines that it is said to print, `…` for what differs."""

    command: str
    expected: tuple[str, ...]

    def missing(self, printed: str) -> list[str]:
        """The expected lines that are not there, in their order, whatever lies between."""
        lines = iter([_spaced(line) for line in printed.splitlines()])
        return [one for one in self.expected if not any(_matches(one, line) for line in lines)]


def _spaced(line: str) -> str:
    return " ".join(line.split())


def _matches(expected: str, line: str) -> bool:
    pattern = ".*".join(map(re.escape, _spaced(expected).split("…")))
    return re.fullmatch(pattern, line) is not None


def steps_of(text: str) -> list[Step]:
    """The commands of the console blocks of `text`."""
    found: list[Step] = []
    for block in _CONSOLE.findall(text):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = entry.splitlines()
            found.append(Step(command, tuple(expected)))
    return found


class Runbook:
    """One page, typed with these settings."""

    def __init__(self, name: str, env: Mapping[str, str], cwd: Path) -> None:
        self._sections = dict(_SECTION.findall((FOLDER / f"{name}.md").read_text("utf-8")))
        self._env = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            **env,
            "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', os.environ['PATH'])}",
        }
        self._cwd = cwd

    def follow(self, section: str, **env: str) -> str:
        """Type its commands; all of them print what the page says. What they printed."""
        return "".join(self.type(step, **env) for step in self.steps(section))

    def steps(self, section: str) -> list[Step]:
        """The commands of a section, for a test in which something happens between them."""
        steps = steps_of(self._sections[section])
        assert steps, f"nothing to type in {section!r}"
        return steps

    def type(self, step: Step, **env: str) -> str:
        """Type one command; it prints what the page says."""
        said = self._run(step.command, env)
        assert not step.missing(said), f"$ {step.command}\nno {step.missing(said)} in:\n{said}"
        return said

    def see(self, **env: str) -> str:
        return self.follow("What you see", **env)

    def do(self, **env: str) -> str:
        return self.follow("What to do", **env)

    def await_over(self, timeout_s: float = OVER_S, **env: str) -> None:
        """Type the last section's commands until they print what the page says."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                self.follow("It is over when", **env)
                return
            except AssertionError:
                if time.monotonic() >= deadline_s:
                    raise

    def _run(self, command: str, env: Mapping[str, str]) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            env={**self._env, **env},
            cwd=self._cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_S,
            check=False,
        )
        return done.stdout.decode()
