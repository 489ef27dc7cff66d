"""The first moments of a process."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys

import pytest

_WAITS = """
import os, signal, sys
os.getpid = lambda: {pid}
from embed_star.start import heed_sigterm
heed_sigterm()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("pid", "is_default", "code"), [(1, "False", 143), (2, "True", -signal.SIGTERM)]
)
def test_the_first_process_of_a_container_ends_at_sigterm(
    pid: int, is_default: str, code: int
) -> None:
    """A kernel gives no signal without a handler to it. Any other process has the default."""
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS.format(pid=pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == is_default
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == code


_THREADS_TAKE_TURNS = """
import re, threading
from pathlib import Path
from embed_star.start import give_back_memory
{first}
kept, turn, together = [], threading.Lock(), threading.Barrier(16)

def hold_and_free():
    together.wait()  # all of them live, so that each is a thread of its own to the allocator
    with turn:
        held = [b"x" * 20_000 for _ in range(300)]
        kept.append(bytearray(1_000))  # what stays, above what goes
        del held
    together.wait()

threads = [threading.Thread(target=hold_and_free) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="its allocator keeps no heap a thread"
)
def test_what_one_thread_has_freed_is_there_for_the_next_one() -> None:
    plain_kib, shared_kib = (
        int(
            subprocess.run(
                [sys.executable, "-c", _THREADS_TAKE_TURNS.format(first=first)],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        for first in ("", "give_back_memory()")
    )
    assert shared_kib < plain_kib - 4 * 6_000  # each of the sixteen held 6 MB
