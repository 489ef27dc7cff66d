"""`python -m bench soak`: does memory stay flat over 100,000 tasks?"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stack import Bench, Shape, running

TASKS = 100_000
WARM_UP_SHARE = 0.2
"""Caches, pools and the allocator fill in the first fifth of the tasks."""
GIVE_UP_S = 1800.0
_SAMPLE_S = 1.0
SHAPE = Shape(batch_rows=1, chord_batches=100, workers=1, threads=3)
"""A row is a task: the most messages for each row."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process."""

    tasks: int
    """Finished by then."""
    rss_kib: int


def soak(figures: dict[str, float], tasks: int = TASKS) -> list[tuple[str, ...]]:
    """Resident memory of a worker and a producer, from warm to the last task."""
    samples: dict[str, list[Sample]] = {"worker1": [], "producer": []}
    with running(SHAPE) as bench:
        began = time.perf_counter()
        _sample_until_done(bench, tasks, samples)
        taken_s = time.perf_counter() - began
    rows: list[tuple[str, ...]] = [
        ("tasks", f"{tasks:,}", f"in {taken_s:,.0f} s", f"{tasks / taken_s:,.0f}/s", "")
    ]
    for name, taken in samples.items():
        warm = [one for one in taken if one.tasks >= WARM_UP_SHARE * tasks]
        slope = slope_kib(warm)
        figures |= {
            f"{name}_rss_warm_kib": warm[0].rss_kib,
            f"{name}_rss_end_kib": warm[-1].rss_kib,
            f"{name}_kib_per_1000_tasks": slope,
        }
        rows.append(
            (
                f"{name}, resident",
                f"{warm[-1].rss_kib / 1024:,.1f} MiB",
                f"{warm[0].rss_kib / 1024:,.1f} MiB when warm",
                f"{slope:+.1f} KiB per 1,000 tasks",
                "",
            )
        )
    return rows


def slope_kib(samples: Sequence[Sample]) -> float:
    """KiB that 1,000 tasks add: the line through all samples, by least squares."""
    tasks = np.array([one.tasks for one in samples], dtype=float)
    rss = np.array([one.rss_kib for one in samples], dtype=float)
    return float(np.polyfit(tasks, rss, 1)[0] * 1000)


def _sample_until_done(bench: Bench, tasks: int, samples: dict[str, list[Sample]]) -> None:
    before = bench.services.ledger.counts().finished_total
    loading = threading.Thread(target=bench.insert_repos, args=(tasks,))
    loading.start()
    deadline = time.monotonic() + GIVE_UP_S
    done = 0
    while done < tasks:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {done} of {tasks} tasks")
        time.sleep(_SAMPLE_S)
        done = bench.services.ledger.counts().finished_total - before
        for name, taken in samples.items():
            taken.append(Sample(done, _rss_kib(bench.stack.processes[name].pid)))
    loading.join()


def _rss_kib(pid: int) -> int:
    listed = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(listed.stdout)
