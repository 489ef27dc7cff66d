"""Finds the example data, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path


def find(name: str) -> Path:
    """The path of `examples/NAME`."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_examples" / name
    return installed if installed.exists() else package.parent / "examples" / name
