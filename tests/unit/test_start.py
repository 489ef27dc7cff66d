"""The first moments of a process."""

from __future__ import annotations

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
