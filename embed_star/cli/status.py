"""`embed-star status`: counts of rows embedded, pending, in flight and failed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from embed_star.cli.cost import duration
from embed_star.errors import RedisUnavailable, StoreUnavailable
from embed_star.observe.terminal import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from embed_star.produce.throughput import Throughput
    from embed_star.services import Services
    from embed_star.status import Report

_SLOWEST_ROWS_S = 0.05
"""Below that the fleet does nothing, and what is shown is the tail of the smoothing."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def command(as_json: bool, watch: bool) -> None:
    """Say how far the embedding of all repos is."""
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        if not watch:
            found = _look(services)
            _print(found, as_json)
            return
        from rich.console import Console
        from rich.live import Live

        from embed_star.produce.throughput import Throughput

        throughput = Throughput()
        with Live(console=Console(), refresh_per_second=4) as live:
            try:
                while True:
                    live.update(_table_or_problem(services, throughput))
                    time.sleep(1.0)
            except KeyboardInterrupt:
                return


def _table_or_problem(services: Services, throughput: Throughput) -> RenderableType:
    try:
        found = _look(services)
    except StoreUnavailable as error:
        from rich.text import Text

        return Text(shown(str(error)))
    rows_s = 0.0 if found.done is None else throughput.update(sum(found.done.values()))
    return table(found, rows_s)


def _look(services: Services) -> Report:
    from embed_star.celery import app  # importing it reads the settings
    from embed_star.status import report
    from tasks.worker.ping import answering_workers

    try:
        return report(services, answering_workers(app, services.workers.count()))
    except RedisUnavailable:
        return report(services)


def _print(found: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        from rich.console import Console

        Console().print(table(found))


def table(found: Report, rows_s: float = 0.0) -> Table:
    """The report as a table for people, with the time left at `rows_s` rows a second."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows.add_column(style="bold")
    rows.add_column()
    rows.add_row("space", f"{found.provider} {found.model}, {found.dimensions} dimensions")
    rows.add_row("embedded", f"{found.embedded:,}")
    if found.passages:
        rows.add_row("passages", f"{found.passages:,}, of READMEs")
    for lane, count in found.pending.items():
        age = found.oldest_pending_s[lane]
        since = "" if age is None else f", the oldest for {age:,.1f} s"
        rows.add_row(f"pending, {lane}", f"{count:,}{since}")
    pending = sum(found.pending.values())
    if pending and rows_s >= _SLOWEST_ROWS_S:
        rows.add_row("time left", f"{duration(pending / rows_s)}, at {rows_s:,.1f} rows/s")
    rows.add_row("in flight", "unknown" if found.in_flight is None else f"{found.in_flight:,}")
    for reason, count in found.failed.items():
        rows.add_row(Text(shown(f"failed, {reason}")), f"{count:,}")
    if found.done is not None:
        rows.add_row("cache", _cache(found.done))
    if found.provider_phase not in (None, "closed"):
        rows.add_row("provider", f"paused; it is tried in {found.provider_retry_in_s:.0f} s")
    if found.messages_set_aside:
        rows.add_row(
            "not understood", f"{found.messages_set_aside:,} messages; their rows come again"
        )
    names = "unknown" if found.workers is None else ", ".join(found.workers) or "none answers"
    rows.add_row("workers", Text(shown(names)))
    for problem in found.problems:
        rows.add_row("problem", Text(shown(problem)))
    return rows


def _cache(done: dict[str, int]) -> str:
    hits, misses = done.get("cached", 0), done.get("embedded", 0)
    return f"{hits:,} found, {misses:,} computed"
