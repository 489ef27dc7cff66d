"""Which tests may run side by side, and in which order they are handed out (pytest-xdist)."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

LONGEST_FIRST = (
    "tests/deploy/test_image.py",
    "tests/runbooks",
    "tests/celery",
    "tests/smoke",
    "tests/security",
    "tests/integration",
)
"""What mostly waits: begun first, it waits while the others compute."""

APART = (
    "tests/celery/test_acknowledging.py",
    "tests/celery/test_redis_cluster.py",
    "tests/celery/test_slots.py",
    "tests/celery/test_start.py",
    "tests/smoke/test_demo.py",
    "tests/smoke/test_load.py",
)
"""Files whose tests take long and share no fixture of the module: each test is handed out by
itself. Those of any other file stay together, for its servers are started once."""


class ByFile(LoadScopeScheduling):
    """Whole files at a time, or tests of `APART`."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # not the files with most tests first

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in APART else file


def rank(nodeid: str) -> int:
    """The place of a test in `LONGEST_FIRST`."""
    folders = [nodeid.startswith(one) for one in LONGEST_FIRST]
    return folders.index(True) if any(folders) else len(folders)
