"""`make bench`: what the pipeline does, against what this machine could do at best."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import backup, blame, fleet, load
from bench.filled import filled
from bench.memory import memory
from bench.peers import command as peers
from bench.quality import command as quality
from bench.recovery import recovery
from bench.scale import command as scale
from bench.scraping import scraped
from bench.soak import soak
from bench.stack import AUTO, Bench, Shape, quantile, running
from bench.starting import starts
from embed_star.errors import EmbedStarError
from embed_star.store.client.codec import record

CONSOLE = Console()
_TURNS = 7
Line = tuple[str, ...]


WITH_OPTIONS = {
    "backup": backup.main,
    "load": load.main,
    "quality": quality.main,
    "fleet": fleet.main,
    "peers": peers.main,
    "scale": scale.main,
}
"""What takes arguments of its own, and is run only when it is named."""


def main() -> None:
    """Run the usual ones, or what is named."""
    if sys.argv[1:2] and sys.argv[1] in WITH_OPTIONS:
        WITH_OPTIONS[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHES], help=f"default: {', '.join(USUAL)}"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    table = Table("what", "figure", "against", "ratio", "wanted", box=None, padding=(0, 2, 0, 0))
    figures: dict[str, float] = {}
    for name in arguments.names or USUAL:
        CONSOLE.print(f"· {name} …")
        for row in BENCHES[name](figures):
            table.add_row(*row)
    CONSOLE.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def instant(figures: dict[str, float], rows: int = 10_000) -> list[Line]:
    """A backlog, an instant provider: how close to the bare INSERT of the same vectors?"""
    with running(Shape(batch_rows=200, chord_batches=2, workers=1, threads=3)) as bench:
        before = bench.bare_insert_rate(rows // 2)
        backlog = _backlog(bench, rows)
        after = bench.bare_insert_rate(rows // 2)
        load = _while_loading(bench, rows)
    bare = (before + after) / 2
    figures |= {"bare_rows_s": bare, "backlog_rows_s": backlog, "load_rows_s": load}
    figures |= {"backlog_ratio": backlog / bare, "load_ratio": load / bare}
    against = f"{_rate(bare)} bare INSERT"
    return [
        (
            "backlog, instant provider",
            f"{backlog:,.0f} rows/s",
            against,
            f"{backlog / bare:.2f}",
            "≥ 0.75",
        ),
        (
            "the same, while rows are being loaded",
            f"{load:,.0f} rows/s",
            against,
            f"{load / bare:.2f}",
            "",
        ),
    ]


def slow_provider(figures: dict[str, float], rows: int = 8_000) -> list[Line]:
    """300 ms a call: how much of the allowed calls in flight is used?"""
    shape = Shape(batch_rows=50, chord_batches=4, workers=2, threads=4, latency_ms=300)
    possible = shape.workers * shape.threads * shape.batch_rows / (shape.latency_ms / 1000)
    with running(shape) as bench:
        rate = _backlog(bench, rows)
    figures |= {
        "slow_rows_s": rate,
        "slow_possible_rows_s": possible,
        "slow_ratio": rate / possible,
    }
    calls = shape.workers * shape.threads
    against = f"{possible:,.0f} rows/s with {calls} calls of {shape.batch_rows}"
    return [
        (
            "backlog, 300 ms a call",
            f"{rate:,.0f} rows/s",
            against,
            f"{rate / possible:.2f}",
            "≥ 0.95",
        )
    ]


def defaults(figures: dict[str, float], rows: int = 10_000) -> list[Line]:
    """300 ms a call, with the settings as they come: batches and calls are `auto`."""
    shape = Shape(
        batch_rows=10, chord_batches=10, workers=1, threads=3, latency_ms=300, settings=AUTO
    )
    with running(shape) as bench:
        rate = _backlog(bench, rows)
        calls = bench.provider.stats()["max_concurrent"]
    figures |= {"defaults_rows_s": rate, "defaults_calls": calls}
    return [("defaults, 300 ms a call", _rate(rate), f"up to {calls} calls", "", "≥ 1,000 rows/s")]


def freshness(figures: dict[str, float], samples: int = 300) -> list[Line]:
    """All idle: from a row written to its vector readable."""
    with running(Shape(batch_rows=10, chord_batches=10, workers=1, threads=3)) as bench:
        taken = [_one_row_ms(bench) for _ in range(samples)]
    median, p99 = statistics.median(taken), quantile(taken, 0.99)
    figures |= {"fresh_median_ms": median, "fresh_p99_ms": p99, "fresh_max_ms": max(taken)}
    return [
        (
            "a row written → vector readable, median",
            f"{median:.1f} ms",
            f"{samples} rows",
            "",
            "≤ 15 ms",
        ),
        ("99th percentile", f"{p99:.1f} ms", f"max {max(taken):.1f} ms", "", "≤ 60 ms"),
    ]


def monitoring(figures: dict[str, float], rows: int = 4_000) -> list[Line]:
    """What metrics and their scrapes cost: two stacks in turns, one of them without."""
    shape = Shape(batch_rows=200, chord_batches=2, workers=1, threads=3)
    with running(replace(shape, monitored=False)) as bare, running(shape) as monitored:
        pairs = []
        for _ in range(_TURNS):
            without = _backlog(bare, rows)
            with scraped(monitored.stack.monitoring_ports.values(), every_s=1.0):
                pairs.append((_backlog(monitored, rows), without))
    ratio = statistics.median(rate / without for rate, without in pairs)
    rate, without = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    figures |= {"monitored_rows_s": rate, "monitored_ratio": ratio}
    return [
        (
            "backlog, with metrics, scraped each second",
            _rate(rate),
            f"{_rate(without)} without metrics",
            f"{ratio:.2f}",
            "≥ 0.95",
        )
    ]


def cached(figures: dict[str, float], rows: int = 5_000, samples: int = 100) -> list[Line]:
    """Every vector in the cache already: a space rebuilt, and one row edited back."""
    with running(Shape(batch_rows=50, chord_batches=4, workers=1, threads=3)) as bench:
        done = bench.services.ledger.counts().finished_total
        keys = bench.insert_repos(rows)
        bench.await_written(done + rows)
        paid = bench.calls_paid()
        rate = bench.rebuild_rate(keys)
        if bench.calls_paid() != paid:
            raise AssertionError("the provider was asked for what is in the cache")
        taken = [bench.edit_back_ms(key) for key in keys[:samples]]
    median, p99 = statistics.median(taken), quantile(taken, 0.99)
    figures |= {"cached_rows_s": rate, "cached_median_ms": median, "cached_p99_ms": p99}
    return [
        ("a space rebuilt from the cache", f"{rate:,.0f} rows/s", f"{rows:,} rows", "", "≥ 100"),
        ("a row with a cached text, median", f"{median:.1f} ms", f"{samples} rows", "", "≤ 100 ms"),
        ("99th percentile", f"{p99:.1f} ms", f"max {max(taken):.1f} ms", "", ""),
    ]


def _rate(rows_s: float) -> str:
    return f"{rows_s:,.0f} rows/s"


BENCHES = {
    "instant": instant,
    "slow": slow_provider,
    "defaults": defaults,
    "freshness": freshness,
    "cached": cached,
    "recovery": recovery,
    "monitoring": monitoring,
    "soak": soak,
    "limit": blame.limit,
    "poison": blame.poison,
    "start": starts,
    "filled": filled,
    "memory": memory,
}
USUAL = ("instant", "slow", "defaults", "freshness", "cached")
"""The soak takes minutes, and what metrics cost matters when they change."""


def _backlog(bench: Bench, rows: int) -> float:
    """Rows/s from the first claim to all written, all of them pending before."""
    done = bench.services.ledger.counts().finished_total
    with bench.producer_held():
        bench.insert_repos(rows)
    started = bench.await_claiming()
    return rows / (bench.await_written(done + rows) - started)


def _while_loading(bench: Bench, rows: int) -> float:
    """Rows/s from the first row of a bulk load to all written."""
    done = bench.services.ledger.counts().finished_total
    started = time.perf_counter()
    bench.insert_repos(rows)
    return rows / (bench.await_written(done + rows) - started)


def _one_row_ms(bench: Bench) -> float:
    started = time.perf_counter()
    (key,) = bench.insert_repos(1)
    vector = record(bench.services.space.table, key)
    query = bench.services.store.database.query
    while not query("SELECT VALUE text_hash FROM $id", id=vector)[0]:
        time.sleep(0.0005)
        if time.perf_counter() - started > 30:
            raise EmbedStarError("the row was not embedded")
    taken_ms = (time.perf_counter() - started) * 1000
    time.sleep(0.02)  # let the run's last messages pass: the stack is to be idle
    return taken_ms


if __name__ == "__main__":
    try:
        main()
    except EmbedStarError as error:
        sys.exit(str(error))
