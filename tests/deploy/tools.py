"""The programs that check what is deployed; `make check-deploy` installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_FOLDERS = (CHECKOUT / ".tools" / "bin", CHECKOUT / ".tools" / "venv" / "bin")
TOOL_S = 120.0


def tool(name: str) -> str:
    """The path of a program; the test fails when nobody has installed it."""
    path = os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=path)
    return found or pytest.fail(f"no {name}: `make check-deploy` installs it")


def run(
    name: str,
    *arguments: str | Path,
    stdin: str = "",
    cwd: Path = CHECKOUT,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TOOL_S,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, whatever its exit code."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        input=stdin,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def check(name: str, *arguments: str | Path, stdin: str = "", cwd: Path = CHECKOUT) -> str:
    """Run a tool that must find nothing wrong; what it printed."""
    done = run(name, *arguments, stdin=stdin, cwd=cwd)
    assert done.returncode == 0, f"{name} {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout
