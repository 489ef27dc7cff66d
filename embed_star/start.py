"""The start of a process: its imports, without garbage collection, and an early end."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of glibc's <malloc.h>."""

_LARGE_BYTES = 262_144
"""A provider's answer and a bulk write are larger, and what a process keeps is smaller."""


def heed_sigterm() -> None:
    """Let SIGTERM end this process at once, until it handles the signal in its own way.

    The first process of a container ignores it without a handler. A worker that was told to stop
    while it still imported would be killed only after its whole grace. To be called in the main
    thread.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def give_back_memory() -> None:
    """Let what many threads free go back to the system. To be called before they begin.

    glibc keeps a heap for every thread, and in each the most that this thread ever held: 40 MB in
    a worker with thirty. With one heap for all, and large blocks outside of it, what is freed is
    free. Another libc goes on as it is.
    """
    if sys.platform == "linux":
        import ctypes  # here: no command's help waits for it

        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
            mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


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
