"""What `embed-star demo` does: it imports, embeds and searches example data."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from embed_star.cli.hits import table as hits_table
from embed_star.cli.import_pages import StoreSink, Summary, write_rows
from embed_star.cli.up import stopped_by_signals
from embed_star.devstack import DATA_DIR, examples
from embed_star.devstack.stack import LocalStack
from embed_star.errors import EmbedStarError
from embed_star.importing import read_rows
from embed_star.models import Lane
from embed_star.providers.catalogue import PROVIDERS
from embed_star.search import Hit
from embed_star.services import Services

SEARCHES = (
    "a queue for background jobs in Python",
    "draw charts from a data frame",
    "keep passwords safe and encrypted",
)
MISTYPED = "celry"
EDITED = ("pallets/flask", "Controls a beehive: weighs the honey and counts the bees.")
EDIT_SEARCH = "sensors for beekeepers"
_DEADLINE_S = 300.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Done:
    """The result of embedding the examples."""

    rows: int
    seconds: float
    outcomes: dict[str, int]
    failed: int


def run(data_dir: Path, *, keep: bool) -> None:
    """Do all of it in `data_dir`, which is removed after it unless `keep`. May exit with 130."""
    console = Console(highlight=False)
    if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / ".gitignore").exists():
        raise EmbedStarError(f"{data_dir} holds other files: name another --data-dir")
    shutil.rmtree(data_dir, ignore_errors=True)
    local = PROVIDERS["local"]
    model = local.models[local.default_model]
    stack = LocalStack(
        data_dir,
        env={
            # All three: an empty value would let a `.env` in this directory win.
            "EMBEDDING_PROVIDER": "local",
            "EMBEDDING_MODEL": model.name,
            "EMBEDDING_DIMENSIONS": str(model.dimensions),
        },
        report=lambda line: console.print("·", line, markup=False, soft_wrap=True),
    )
    with stopped_by_signals(stack):
        try:
            stack.start()
            stack.wait_ready()
            _show(console, stack)
        except Exception:
            # A stop takes the servers away from whatever was under way.
            if not stack.stop_requested:
                raise
            console.print("stopped before the end")
            sys.exit(130)
        finally:
            stack.stop()
            if not keep:
                _remove(data_dir)
    command_line = "embed-star" if shutil.which("embed-star") else sys.argv[0]
    console.print(f"· everything is stopped; next: [bold]{command_line} up[/]", soft_wrap=True)


def _remove(data_dir: Path) -> None:
    shutil.rmtree(data_dir, ignore_errors=True)
    if data_dir.parent == DATA_DIR:
        with suppress(OSError):  # there is something else in it
            data_dir.parent.rmdir()


def _show(console: Console, stack: LocalStack) -> None:
    with Services(stack.settings()) as services:
        rows = import_examples(services)
        console.print(f"· {rows} repositories imported from examples/repos.jsonl")
        _summary(console, await_embedded(services, rows, console, stack.raise_if_stopping))
        for query in SEARCHES:
            stack.raise_if_stopping()
            _search(console, services, query)
        _search(console, services, MISTYPED, explain=True)
        _edit(console, services, stack.raise_if_stopping)


def import_examples(services: Services) -> int:
    """Write examples/repos.jsonl into `repo`; the number of rows."""
    summary = Summary("examples/repos.jsonl", Lane.FRESH.name.lower(), dry_run=False)
    with examples.find("repos.jsonl").open("rb") as stream:
        rows = read_rows(stream, name=summary.source)
        write_rows(rows, StoreSink(services.store), Lane.FRESH, summary)
    if summary.bad or not summary.written:
        raise EmbedStarError(f"{summary.source}: {summary.bad} bad lines")
    return summary.written


def await_embedded(
    services: Services,
    rows: int,
    console: Console | None = None,
    check: Callable[[], None] = lambda: None,
) -> Done:
    """Wait until nothing is pending. Shows a progress bar when there is a `console`.

    `check` is called before each look, and may raise.
    """
    columns = (
        TextColumn("  embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    store = services.store
    with Progress(*columns, console=console, disable=console is None) as bar:
        shown = bar.add_task("", total=rows)
        while any(store.outbox.counts().values()):
            check()
            bar.update(shown, completed=store.vectors.count())
            _wait(started, "the rows were not embedded")
        seconds = time.monotonic() - started
        bar.update(shown, completed=store.vectors.count())
    failed = sum(store.failures.by_reason().values())
    return Done(store.vectors.count(), seconds, services.ledger.totals(), failed)


def _summary(console: Console, done: Done) -> None:
    rows = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    rows.add_row("rows", f"{done.rows:,}")
    rows.add_row("seconds", f"{done.seconds:.1f}")
    rows.add_row("rows/s", f"{done.rows / done.seconds:,.0f}")
    hits, misses = done.outcomes.get("cached", 0), done.outcomes.get("embedded", 0)
    rows.add_row("cache", f"{hits:,} found, {misses:,} computed")
    rows.add_row("failures", f"{done.failed:,}")
    console.print(rows)
    if done.failed:
        raise EmbedStarError(f"{done.failed} example rows could not be embedded")


def _search(
    console: Console, services: Services, query: str, *, explain: bool = False
) -> Sequence[Hit]:
    options = " --explain" if explain else ""
    console.print(f'\n[bold]embed-star search "{query}" -k 5{options}[/]')
    hits = services.search.find(query, 5)
    if not hits:
        raise EmbedStarError(f"the search for {query!r} found nothing")
    console.print(hits_table(hits, explain=explain))
    return hits


def _edit(console: Console, services: Services, check: Callable[[], None]) -> None:
    """Change one description and wait until the search finds it."""
    name, description = EDITED
    console.print(f"\n· {name} is edited; its description is now: {description}", soft_wrap=True)
    started = time.monotonic()
    fields = {"description": description, "topics": []}
    services.store.repos.upsert([(name, fields)], lane=Lane.FRESH)
    while services.search.find(EDIT_SEARCH, 1)[0].repo["full_name"].lower() != name:
        check()
        _wait(started, "the edited row was not embedded again")
    console.print(f"· its new embedding is found after {time.monotonic() - started:.2f} s")
    _search(console, services, EDIT_SEARCH)


def _wait(started: float, failure: str) -> None:
    if time.monotonic() - started > _DEADLINE_S:
        raise EmbedStarError(f"{failure} within {_DEADLINE_S:g} s; see the logs with --keep")
    time.sleep(_POLL_S)
