"""What a process has used, as the kernel counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Processor seconds so far, of all its threads. Raises OSError for a process that ended."""
    return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory now. Raises OSError for a process that ended."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def proportional_bytes(pid: int) -> int:
    """Resident memory now, each page divided among the processes that share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def family(pid: int) -> list[int]:
    """`pid` and all that come from it, as far as they still run."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            one = int(folder.name)
            parents.setdefault(int(_stat(one)[1]), []).append(one)
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def family_cpu_s(pid: int) -> float:
    """Processor seconds so far of `pid` and all that come from it, those that ended, too."""
    ticks = 0
    for one in family(pid):
        with suppress(OSError):
            ticks += sum(map(int, _stat(one)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of the process's line, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
