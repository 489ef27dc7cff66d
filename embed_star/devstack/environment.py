"""What child processes inherit. The stack passes variables on; Settings interprets them.

Only SURREAL_BIN and PATH are read here, to find the servers.
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
    """What a database server needs: no API keys, and no SURREAL_* that would reconfigure it."""
    return {
        name: value
        for name, value in environment.items()
        if name in _SERVER_NAMES or name.startswith(_SERVER_PREFIXES)
    }
