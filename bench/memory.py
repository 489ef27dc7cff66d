"""`python -m bench memory`: what a worker holds after a fill, with the settings as they come."""

from __future__ import annotations

from collections.abc import Mapping

from bench.stack import AUTO, Shape, running
from bench.usage import proportional_bytes, resident_bytes

LOCAL = {
    "EMBEDDING_PROVIDER": "local",
    "EMBEDDING_MODEL": "all-minilm-l6-v2-int8",
    "EMBEDDING_DIMENSIONS": "384",
}


def memory(
    figures: dict[str, float], rows: int = 12_000, local_rows: int = 1_500
) -> list[tuple[str, ...]]:
    """Resident memory, and what of it is not shared with other processes."""
    return [
        _line(figures, "worker", rows, AUTO, "≤ 100 MiB"),
        _line(figures, "worker, local", local_rows, {**AUTO, **LOCAL}, "≤ 200 MiB"),
    ]


def _line(
    figures: dict[str, float], name: str, rows: int, settings: Mapping[str, str], wanted: str
) -> tuple[str, ...]:
    shape = Shape(
        batch_rows=10, chord_batches=10, workers=1, threads=3, latency_ms=100, settings=settings
    )
    with running(shape) as bench:
        done = bench.services.ledger.counts().finished_total
        bench.insert_repos(rows)
        bench.await_written(done + rows)
        pid = bench.stack.processes["worker1"].pid
        resident, own = resident_bytes(pid) / 2**20, proportional_bytes(pid) / 2**20
    figures |= {f"{name}_rss_mib": resident, f"{name}_pss_mib": own}
    return (f"{name}, after {rows:,} rows", f"{resident:,.0f} MiB", f"{own:,.0f} PSS", "", wanted)
