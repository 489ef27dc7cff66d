"""The start of a process: its imports, without garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage while the block imports, and never look through what it made.

    Nearly all that an import makes stays for as long as the process does. To walk through it again
    and again took an eighth of a worker's start. Children that are forked share it for longer, too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
