"""The environment of child processes. The stack passes it on; Settings interprets it.

The stack itself reads only SURREAL_BIN and PATH, to find the servers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_SERVER_NAMES = frozenset({"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME"})
_SERVER_PREFIXES = ("LD_", "DYLD_", "PYTHON", "VIRTUAL_ENV")


def inherited(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with `extra` on top."""
    return {**os.environ, **(extra or {})}


def for_server(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a server needs: no API keys, and no SURREAL_* that would configure it."""
    return {
        name: value
        for name, value in environment.items()
        if name in _SERVER_NAMES or name.startswith(_SERVER_PREFIXES)
    }
