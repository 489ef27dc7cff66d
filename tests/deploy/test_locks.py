"""The locks: hashes for everything, and the image has the versions that the tests ran with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.tools import CHECKOUT

LOCKS = [CHECKOUT / "requirements.lock", *sorted((CHECKOUT / "deploy/locks").glob("*.lock"))]


def pins(lock: Path) -> dict[str, list[str]]:
    """`name==version ; marker` → its hashes."""
    blocks = re.findall(
        r"^(\S+==[^\\\n]+?) \\\n((?: +--hash=\S+(?: \\)?\n)+)", lock.read_text(), re.MULTILINE
    )
    return {pin: re.findall(r"--hash=(sha256:[0-9a-f]{64})", hashes) for pin, hashes in blocks}


def by_version(pins: dict[str, list[str]]) -> dict[str, list[str]]:
    """`name==version` → its hashes. Fewer extras may need a package on fewer systems."""
    return {pin.partition(" ;")[0]: hashes for pin, hashes in pins.items()}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_has_hashes_and_no_address(lock: Path) -> None:
    lines = re.findall(r"^[\w.-]+==.*", lock.read_text(), re.MULTILINE)
    found = pins(lock)
    assert len(lines) == len(found) > 0
    assert all(found.values())
    assert "://" not in lock.read_text()


def test_the_image_has_what_was_tested() -> None:
    tested = by_version(pins(CHECKOUT / "requirements.lock"))
    for pin, hashes in by_version(pins(CHECKOUT / "deploy/locks/runtime.lock")).items():
        assert tested.get(pin) == hashes, f"{pin}: run `make lock`"
