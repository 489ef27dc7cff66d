"""`python -m bench fleet`: what a row costs each process, and what other fleets would do."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from bench.simulate import Cost, Part, Prediction, fitted, predict
from bench.stack import Bench, Shape, running
from bench.usage import cpu_s

LATENCY_S = 0.3
FEW = Shape(batch_rows=10, chord_batches=10, workers=1, threads=3, latency_ms=LATENCY_S * 1000)
MANY = Shape(batch_rows=200, chord_batches=2, workers=1, threads=3, latency_ms=LATENCY_S * 1000)
BETWEEN = Shape(batch_rows=50, chord_batches=4, workers=2, threads=4, latency_ms=LATENCY_S * 1000)
"""The first two are measured to know the costs, the third to check the model."""

FLEETS = ((1, 4), (10, 8), (100, 32), (1_000, 256))
"""Workers, each with a processor of its own, and processors of the database."""
CALLS, BATCH_ROWS = 16, 100
REPOS = 100_000_000

Seconds = Mapping[str, float]
"""By the name of a process, without its number."""


def main(arguments: list[str]) -> None:
    """Measure, check, and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench fleet", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000, help="rows of each measurement")
    rows = parser.parse_args(arguments).rows
    console, cores = Console(), os.cpu_count() or 1
    measured = []
    for shape in (FEW, MANY, BETWEEN):
        console.print(f"· batches of {shape.batch_rows} …")
        count = rows // 6 if shape is FEW else rows
        measured.append((shape, *_measured(shape, count)))
    costs = _costs(measured[0][2], measured[1][2])
    console.print(_costs_table(costs))
    check = Table("shape", "measured", "predicted", "ratio", box=None, padding=(0, 2, 0, 0))
    for shape, rate, _ in measured:
        machine = Part("machine", sum(one.of(shape.batch_rows) for one in costs.values()), cores)
        found = predict(
            [machine],
            calls=shape.workers * shape.threads,
            batch_rows=shape.batch_rows,
            provider_s=LATENCY_S,
        )
        calls = f"{shape.workers} x {shape.threads} calls of {shape.batch_rows}"
        ratio = f"{found.rows_s / rate:.2f}"
        check.add_row(calls, f"{rate:,.0f} rows/s", f"{found.rows_s:,.0f} rows/s", ratio)
    console.print(check)
    console.print(_fleets_table(costs))


def _measured(shape: Shape, rows: int) -> tuple[float, Seconds]:
    """Rows/s of a backlog, and each process's seconds a row."""
    with running(shape) as bench:
        done = bench.services.ledger.counts().finished_total
        with bench.producer_held():
            bench.insert_repos(rows)
        before = _used_s(bench)
        started = bench.await_claiming()
        rate = rows / (bench.await_written(done + rows) - started)
        after = _used_s(bench)
    return rate, {name: (after[name] - before[name]) / rows for name in after}


def _used_s(bench: Bench) -> Counter[str]:
    """Processor seconds of each process so far; those of the workers are added."""
    used: Counter[str] = Counter()
    pids = {name: child.pid for name, child in bench.stack.processes.items()}
    for name, pid in {**pids, "provider": bench.provider.pid}.items():
        used[name.rstrip("0123456789")] += cpu_s(pid)
    return used


def _costs(few: Seconds, many: Seconds) -> dict[str, Cost]:
    return {
        name: fitted((FEW.batch_rows, few[name]), (MANY.batch_rows, many[name])) for name in many
    }


def _fleet(costs: Mapping[str, Cost], workers: int, processors: int) -> Prediction:
    parts = [
        Part(
            name,
            costs[name].of(BATCH_ROWS),
            {"worker": workers, "surrealdb": processors}.get(name, 1),
        )
        for name in costs
        if name != "provider"  # somebody else's machine
    ]
    return predict(parts, calls=workers * CALLS, batch_rows=BATCH_ROWS, provider_s=LATENCY_S)


def _costs_table(costs: Mapping[str, Cost]) -> Table:
    table = Table("process", "µs a row", "µs a batch", box=None, padding=(0, 2, 0, 0))
    for name, cost in sorted(costs.items(), key=lambda item: -item[1].row_s):
        table.add_row(name, f"{cost.row_s * 1e6:,.0f}", f"{cost.batch_s * 1e6:,.0f}")
    return table


def _fleets_table(costs: Mapping[str, Cost]) -> Table:
    table = Table(
        "workers",
        "database",
        "rows/s",
        f"{REPOS // 1_000_000} million rows",
        "fullest first",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for workers, processors in FLEETS:
        found = _fleet(costs, workers, processors)
        full = ", ".join(f"{name} {found.used[name]:.0%}" for name in found.fullest[:3])
        hours = f"{REPOS / found.rows_s / 3600:,.1f} h"
        table.add_row(
            f"{workers:,}", f"{processors} processors", f"{found.rows_s:,.0f}", hours, full
        )
    return table
