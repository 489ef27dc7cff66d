"""What is installed is what was locked: by hash, from wherever the installer looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.isolation import CHECKOUT

LOCKS = sorted([CHECKOUT / "requirements.lock", *(CHECKOUT / "deploy" / "locks").glob("*.lock")])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_has_its_version_and_hashes(lock: Path) -> None:
    text = re.sub(r"\\\n\s*", "", lock.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 5
    wrong = [one[:80] for one in lines if not re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:", one)]
    assert wrong == []


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_nothing_is_installed_without_them(file: str) -> None:
    """But for our own code, which brings no dependency along."""
    text = (CHECKOUT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"^.*\bpip\b.* install .*$", text, re.MULTILINE)
    assert installs
    for command in re.split(r"&&|\n", "\n".join(installs)):
        if " install " in command:
            own = "--no-deps" in command and re.search(r" (-e )?\.| \S+\.whl", command)
            assert "--require-hashes" in command or own, command
