"""`embed-star backup`: saves vectors, failures and spaces into a directory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar on stderr; none when stderr is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--no-vectors", is_flag=True, help="Leave the vectors out: they are computed anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(directory: Path, no_vectors: bool, as_json: bool) -> None:
    """Save vectors, failures and embedding spaces into DIRECTORY.

    The rows of `repo` are yours and not in it: save them with SurrealDB's own export.
    DIRECTORY must be new or empty. The fleet may go on meanwhile.
    """
    from embed_star.backup.manifest import FAILURES
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    vectors = not no_vectors
    with Services(load_settings()) as services, bar() as progress:
        services.store.check(to_write=False)
        total = sum(services.saver.totals(vectors=vectors).values())
        task = progress.add_task("saving", total=total)
        started = time.monotonic()
        manifest = services.saver.save(
            directory, lambda _, rows: progress.advance(task, rows), vectors=vectors
        )
        took_s = time.monotonic() - started
    records = {one.table: one.records for one in manifest.tables}
    failures = records.pop(FAILURES)
    size = sum(one.bytes for one in manifest.files)
    if as_json:
        report = {
            "directory": str(directory),
            "vectors": sum(records.values()),
            "failures": failures,
            "spaces": len(manifest.spaces),
            "files": len(manifest.files),
            "bytes": size,
            "seconds": round(took_s, 3),
        }
        click.echo(json.dumps(report, indent=2))
        return
    saved = f"{sum(records.values()):,} vectors" if vectors else "no vectors"
    click.echo(
        f"{saved}, {failures:,} failures and {len(manifest.spaces):,} spaces in "
        f"{size / 1e6:,.1f} MB, {took_s:,.1f} s: {directory}"
    )
