"""The project as a newcomer has it: a clone, in which commands are typed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.deploy.tools import CHECKOUT
from tests.support.command_line import Finished
from tests.support.runbook import Step, steps_of

COMMAND_S = 590.0
_IDENTITY = ("-c", "user.name=upstream", "-c", "user.email=upstream@example.org")


def blocks_of(document: str, section: str) -> Iterator[list[Step]]:
    """The commands of each console block of a section."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"{document} has no section {section!r}"
    for block in re.findall(r"^```console\n.*?^```", found[1], re.MULTILINE | re.DOTALL):
        yield steps_of(block)


def commands_of(program: str) -> dict[str, list[str]]:
    """What one wants → this program's commands for it, of the table in docs/runbooks/README.md."""
    page = (CHECKOUT / "docs/runbooks/README.md").read_text(encoding="utf-8")
    section = page.partition("\n## Where to type the commands\n")[2]
    rows = (line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|"))
    return {row[0]: re.findall(rf"`({program} [^`]+)`", " ".join(row[1:])) for row in rows}


class Project:
    """An upstream repository with this checkout's files, and a clone of it for one user only.

    The clone is made under `umask 077`, as careful administrators have it: nothing in it can be
    read by a container's user unless the project sees to that.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._upstream = folder / "upstream"
        self.folder = folder / "embed_star"
        self.environment = {**os.environ, **environment, "COLUMNS": "200"}
        listed = self._git(CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():
                (self._upstream / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, self._upstream / name)
        self._git(self._upstream, "init", "--quiet", "--initial-branch=main")
        self.commit("first")
        self.type(f"umask 077 && git clone --quiet {self._upstream} {self.folder}", cwd=folder)
        assert stat.S_IMODE((self.folder / "docker-compose.yml").stat().st_mode) == 0o600

    def commit(self, message: str) -> None:
        """Commit what is in the upstream repository's folder."""
        self._git(self._upstream, "add", "--all")
        self._git(self._upstream, *_IDENTITY, "commit", "--quiet", "--message", message)

    def edit_upstream(self, name: str, old: str, new: str) -> None:
        """Change one place of a file there."""
        text = (self._upstream / name).read_text()
        assert text.count(old) == 1, (name, old)
        (self._upstream / name).write_text(text.replace(old, new))

    def ask(self, command: str, stdin: str = "", cwd: Path | None = None) -> Finished:
        """Type a command; how it ended."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd or self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def type(self, command: str, stdin: str = "", cwd: Path | None = None) -> str:
        """Type a command that must work; what it printed."""
        done = self.ask(command, stdin, cwd)
        if done.code:
            more = self.ask("docker compose logs --tail 5").out if "compose up" in command else ""
            pytest.fail(f"$ {command}\n{done.out[-2000:]}\n{done.err[-2000:]}\n{more}")
        return done.out

    def configure(self, **lines: str | None) -> None:
        """Set lines of `.env`, and remove those that are None."""
        file = self.folder / ".env"
        old = dict(
            line.split("=", 1) for line in (file.read_text() if file.exists() else "").splitlines()
        )
        kept = {name: value for name, value in (old | lines).items() if value is not None}
        file.write_text("".join(f"{name}={value}\n" for name, value in kept.items()))

    @staticmethod
    def _git(folder: Path, *arguments: str) -> str:
        argv = ["git", "-C", str(folder), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
