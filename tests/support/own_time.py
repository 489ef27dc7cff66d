"""How long a process takes to end, by its own time: promises are made for a machine that has a
core for it, and tests run beside others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from embed_star.devstack.processes import Child

_LOOK_S = 0.02


def ends_within(child: Child, within_s: float) -> bool:
    """Whether it ends in time. The time for which a thread of it, or this one, was ready to run
    while all cores were others' does not count (Linux tells; elsewhere all time counts)."""
    began = time.monotonic()
    before, own_before = dict(_delays(child.pid)), _own_delay_s()
    delay_s = 0.0
    while True:
        ended = child.ended.wait(_LOOK_S)
        delays = [now - before.get(thread, 0.0) for thread, now in _delays(child.pid)]
        delay_s = max(delay_s, *delays, 0.0)
        own_s = time.monotonic() - began - delay_s - (_own_delay_s() - own_before)
        if ended or own_s >= within_s:
            return ended and own_s < within_s


def _delays(pid: int) -> Iterator[tuple[str, float]]:
    """Of each thread, how long it has waited for a core."""
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            yield thread.name, _delay_s(thread)


def _own_delay_s() -> float:
    with suppress(OSError):
        return _delay_s(Path("/proc/thread-self"))
    return 0.0


def _delay_s(thread: Path) -> float:
    return int((thread / "schedstat").read_text().split()[1]) / 1e9
