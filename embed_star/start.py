"""The start of a process: its imports, without garbage collection, and an early end."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


def heed_sigterm() -> None:
    """Let SIGTERM end this process at once, until it handles the signal in its own way.

    The first process of a container ignores it without a handler. A worker that was told to stop
    while it still imported would be killed only after its whole grace. To be called in the main
    thread.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


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
