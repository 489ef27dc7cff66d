"""`python -m bench load`: production-like rows at a chosen rate, for a chosen time.

Whole processes against a scripted provider whose latency is log-normal. Reports throughput,
freshness (row written → vector readable), provider calls and the memory of each process, as
a table, a JSON file and a picture. Fails when a row was lost, stale or paid for twice.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.picture import draw
from bench.stack import Bench, Shape, quantile, running
from bench.traffic import Fresh, Outstanding, Watcher, Writer
from bench.usage import resident_bytes
from tests.support.checker import Checker

CONSOLE = Console()
_MAX_RATE = 500.0
_MAX_DURATION_S = 3600.0
_ROWS_A_WRITER_S = 25.0
"""A client waits for each of its two writes in turn."""
_QUIET_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment, `at_s` after the start."""

    at_s: float
    outstanding: int
    rss_mb: dict[str, float]


@dataclass(slots=True)
class Result:
    """All that was measured."""

    rate: float
    duration_s: float
    latency_ms: float
    counts: dict[str, int] = field(default_factory=dict)
    late_s: float = 0.0
    settled_s: float = 0.0
    """From the last write to nothing pending."""
    overtaken: int = 0
    calls: int = 0
    texts: int = 0
    failed: int = 0
    fault: str = ""
    """Which promise is broken; empty: none."""
    fresh: list[Fresh] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def quantile_s(self, q: float) -> float:
        return quantile([one.took_s for one in self.fresh], q) if self.fresh else 0.0

    def peak_mb(self) -> dict[str, tuple[float, float]]:
        """Process → memory at the first sample, and at most."""
        names = self.samples[0].rss_mb if self.samples else {}
        return {
            name: (
                self.samples[0].rss_mb[name],
                max(one.rss_mb.get(name, 0.0) for one in self.samples),
            )
            for name in names
        }


def main(arguments: list[str]) -> None:
    """Run it; exit code 1 when a promise was broken."""
    given = _parsed(arguments)
    shape = Shape(
        batch_rows=given.batch_size,
        chord_batches=10,
        workers=given.workers,
        threads=given.parallel_workers,
        latency_ms=given.latency_ms,
        latency_sigma=given.latency_sigma,
        true_vectors=True,
        beat=True,
    )
    result = Result(given.rate, given.duration, given.latency_ms)
    with running(shape) as bench:
        _drive(bench, result, given.seed)
        _judge(bench, result)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "load.json").write_text(json.dumps(asdict(result)) + "\n")
    draw(result, given.output / "load.png")
    CONSOLE.print(_table(result))
    CONSOLE.print(f"picture and figures: {given.output}/load.png, load.json")
    if result.fault:
        raise SystemExit(f"a promise is broken: {result.fault}")


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench load", description=__doc__)
    add = parser.add_argument
    add("--rate", type=float, default=50, help="rows a second that need a vector (50)")
    add("--duration", type=float, default=120, help="seconds (120)")
    add("--workers", type=int, default=1, help="worker processes (1)")
    add("--parallel-workers", type=int, default=3, help="provider calls in flight in each (3)")
    add("--batch-size", type=int, default=10, help="rows a provider call, at most (10)")
    add("--latency-ms", type=float, default=200, help="median of a provider call (200)")
    add("--latency-sigma", type=float, default=0.5, help="spread; 0.5: p95 is 2.3 times it")
    add("--seed", type=int, default=1)
    add("--output", type=Path, default=Path(".load"), help="where the results go (.load)")
    given = parser.parse_args(arguments)
    if not 0 < given.rate <= _MAX_RATE or not 1 <= given.duration <= _MAX_DURATION_S:
        parser.error(f"--rate is at most {_MAX_RATE:g}, --duration 1 to {_MAX_DURATION_S:g}")
    return given


def _drive(bench: Bench, result: Result, seed: int) -> None:
    """Write, watch and sample until all is settled."""
    outstanding = Outstanding()
    clients = int(result.rate // _ROWS_A_WRITER_S) + 1
    writers = [
        Writer(bench.services, outstanding, rate=result.rate / clients, number=n + 1, seed=seed)
        for n in range(clients)
    ]
    watcher = Watcher(bench.services, outstanding)
    begin_s = time.monotonic()
    threads = [
        threading.Thread(target=one.run, args=(begin_s, result.duration_s), daemon=True)
        for one in writers
    ]
    watching = threading.Thread(target=watcher.run, args=(begin_s,), daemon=True)
    for thread in (*threads, watching):
        thread.start()
    deadline_s = begin_s + result.duration_s + _QUIET_S
    written_s = 0.0
    while time.monotonic() < deadline_s:
        at_s = time.monotonic() - begin_s
        result.samples.append(Sample(at_s, len(outstanding), _rss_mb(bench)))
        if not any(thread.is_alive() for thread in threads):
            written_s = written_s or at_s
            if not outstanding and _is_quiet(bench):
                break
        time.sleep(1.0)
    result.settled_s = time.monotonic() - begin_s - written_s
    watcher.stop()
    watching.join()
    result.fresh = watcher.fresh
    result.overtaken = outstanding.overtaken
    result.late_s = max(one.late_s for one in writers)
    result.counts = {name: sum(one.counts[name] for one in writers) for name in writers[0].counts}


def _judge(bench: Bench, result: Result) -> None:
    stats = bench.provider.stats()
    result.calls, result.texts = stats["calls"], stats["texts"]
    report = Checker(bench.services).check(bench.provider.ledger())
    result.failed = len(report.failed)
    try:
        report.assert_kept()
    except AssertionError as error:
        result.fault = str(error)


def _is_quiet(bench: Bench) -> bool:
    return not any(bench.services.store.outbox.counts().values())


def _rss_mb(bench: Bench) -> dict[str, float]:
    """Resident memory of each process of the stack, in MB."""
    found = {}
    for name, child in bench.stack.processes.items():
        try:
            found[name] = resident_bytes(child.pid) / 1e6
        except OSError:  # it ended
            continue
    return found


def _table(result: Result) -> Table:
    table = Table("what", "figure", box=None, padding=(0, 2, 0, 0))
    counts, needed = result.counts, result.counts["new"] + result.counts["edits"]
    rows = {
        "written": ", ".join(f"{number:,} {name}" for name, number in counts.items()),
        "rate": f"{needed / result.duration_s:,.1f} rows/s that need a vector",
        "the clients' delay": f"{result.late_s * 1000:,.0f} ms at most",
        "embedded": f"{len(result.fresh):,} seen, {result.overtaken:,} overtaken by a later write",
        "freshness p50": f"{result.quantile_s(0.5) * 1000:,.0f} ms",
        "freshness p95": f"{result.quantile_s(0.95) * 1000:,.0f} ms",
        "freshness p99": f"{result.quantile_s(0.99) * 1000:,.0f} ms",
        "freshness max": f"{result.quantile_s(1.0) * 1000:,.0f} ms",
        "settled after": f"{result.settled_s:,.1f} s from the last write",
        "provider": f"{result.calls:,} calls, {result.texts:,} texts",
        "failures": f"{result.failed:,}",
        "promises": result.fault or "kept: nothing lost, stale or paid for twice",
    }
    for name, (first, peak) in result.peak_mb().items():
        rows[f"memory of {name}"] = f"{first:,.0f} MB at first, {peak:,.0f} MB at most"
    for name, figure in rows.items():
        table.add_row(name, figure)
    return table
