"""Processes that see nothing of the developer's: no settings, no `.env`, no `local.env`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embed_star.settings import RootSettings, Settings

CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """This process, and what it starts, works in `folder` with no setting of ours set.

    They import embed_star from this checkout, whether it is installed or not.
    """
    names = set(Settings.model_fields) | set(RootSettings.model_fields)
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.lower() in names:
                patch.delenv(variable)
        if surreal := os.environ.get("SURREAL_BIN"):
            patch.setenv("SURREAL_BIN", str(Path(surreal).absolute()))
        path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.chdir(folder)
        yield
