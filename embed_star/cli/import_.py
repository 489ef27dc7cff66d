"""`embed-star import`: repositories from a file, or a user's stars, into the database."""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.status import Status

from embed_star.errors import EmbedStarError, InputFileError
from embed_star.github import StarredClient
from embed_star.importing import BadLine, Row, read_rows, to_row
from embed_star.models import Lane
from embed_star.settings import Settings, load_settings
from embed_star.terminal import shown

PAGE_ROWS = 500
PAGE_CHARS = 8 * 1024 * 1024
"""A page ends early when its texts reach this: one page is one message to SurrealDB."""
SHOWN_BAD_LINES = 20

Rows = Iterable[Row | BadLine]


class Sink(Protocol):
    """Where pages go. Each call is all or nothing; calling twice changes nothing more."""

    def upsert_repos(self, rows: Sequence[tuple[str, dict[str, Any]]], *, lane: int) -> int:
        """Create or update rows of (key, fields), announced in `lane`; how many it wrote."""


class StoreSink:
    def __init__(self, store: Any) -> None:
        self._store = store

    def upsert_repos(self, rows: Sequence[tuple[str, dict[str, Any]]], *, lane: int) -> int:
        return int(self._store.repos.upsert(rows, lane=lane))


@contextmanager
def open_sink(settings: Settings) -> Iterator[Sink]:
    """The database as a Sink."""
    from embed_star.services import open_store

    with open_store(settings) as store:
        yield StoreSink(store)


@dataclass(slots=True)
class Summary:
    """What became of the rows.

    A duplicate is a row whose key came before. In one page the last one wins; in a later
    page it is written again, and counts as both. In a dry run nothing is written.
    """

    source: str
    lane: str
    dry_run: bool
    read: int = 0
    written: int = 0
    bad: int = 0
    duplicates: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    """The first ones."""


def write_rows(rows: Rows, sink: Sink | None, lane: Lane, summary: Summary) -> None:
    """Write the good rows in pages and count into `summary`; no sink: only count.

    Raises what the source and the sink raise; `summary` then tells what is written.
    """
    seen: set[int] = set()  # hashes: 12 MB for the 170,000 rows of a file of 1 GB
    page: dict[str, dict[str, Any]] = {}
    chars = 0

    def flush() -> None:
        if page and sink:
            summary.written += sink.upsert_repos(list(page.items()), lane=int(lane))
        page.clear()

    for row in rows:
        summary.read += 1
        if isinstance(row, BadLine):
            summary.bad += 1
            if summary.bad <= SHOWN_BAD_LINES:
                summary.bad_lines.append(row)
            continue
        key, fields = row.repo
        summary.duplicates += hash(key) in seen
        seen.add(hash(key))
        page[key] = fields
        chars += sum(len(value) for value in fields.values() if isinstance(value, str))
        if len(page) >= PAGE_ROWS or chars >= PAGE_CHARS:
            flush()
            chars = 0
    flush()


@click.command()
@click.argument("file", required=False)
@click.option("--starred", metavar="USER", help="What USER starred on GitHub, instead of FILE.")
@click.option(
    "--lane",
    type=click.Choice([lane.name.lower() for lane in Lane]),
    default=Lane.FRESH.name.lower(),
    show_default=True,
    help="backfill: embed these rows after all fresh ones.",
)
@click.option("--dry-run", is_flag=True, help="Read and count, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--max-wait",
    "max_wait_s",
    type=click.IntRange(min=0),
    default=3600,
    show_default=True,
    help="Seconds to wait, for one page, while GitHub's rate limit is used up.",
)
@click.pass_context
def command(
    ctx: click.Context,
    file: str | None,
    starred: str | None,
    lane: str,
    dry_run: bool,
    as_json: bool,
    max_wait_s: int,
) -> None:
    """Put repositories into the database, from FILE or a user's stars.

    FILE is JSON Lines, a JSON array as `gh api user/starred` prints it, or CSV with GitHub's
    field names; `-` reads standard input. A row that is there already is updated, so an
    import may be run again. Bad rows are left out and listed; the exit code is then 1.
    """
    if (file is None) == (starred is None):
        raise click.UsageError("give either FILE (- is standard input) or --starred USER")
    source = f"{starred}'s stars" if starred is not None else _name(file or "")
    summary = Summary(source, lane, dry_run)
    try:
        with ExitStack() as stack:
            # A dry run of a file needs no settings, as before there is a database.
            settings = load_settings() if starred is not None or not dry_run else None
            rows = stack.enter_context(
                starred_rows(starred, settings, max_wait_s)
                if starred is not None and settings
                else file_rows(file or "")
            )
            sink = stack.enter_context(open_sink(settings)) if settings and not dry_run else None
            write_rows(rows, sink, Lane[lane.upper()], summary)
    except EmbedStarError:
        if summary.written:
            click.echo(f"{summary.written:,} rows were written before this:", err=True)
        raise
    _report(summary, as_json)
    ctx.exit(1 if summary.bad else 0)


@contextmanager
def file_rows(file: str) -> Iterator[Rows]:
    """The rows of a file, with a bar by bytes on a terminal. Raises InputFileError."""
    name = _name(file)
    if file == "-":
        yield read_rows(sys.stdin.buffer, name=name)
        return
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(Path(file).open("rb"))
        except (OSError, ValueError) as error:
            raise InputFileError(f"cannot read {name}: {_why(error)}") from error
        status = os.fstat(handle.fileno())
        counted: BinaryIO = handle
        if sys.stderr.isatty() and stat.S_ISREG(status.st_mode):  # a pipe has no length
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
            )
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            stack.enter_context(bar)
            counted = bar.wrap_file(handle, total=status.st_size, description=name)
        yield read_rows(counted, name=name)


@contextmanager
def starred_rows(user: str, settings: Settings, max_wait_s: float) -> Iterator[Rows]:
    """What `user` starred; a row's line is its place in GitHub's list."""
    with ExitStack() as stack:
        on_wait = _plain_wait()
        if sys.stderr.isatty():
            console = Console(stderr=True)
            on_wait = _live_wait(stack.enter_context(console.status("asking GitHub")))
        client = StarredClient(
            settings.github_api_url,
            settings.github_token.get_secret_value(),
            max_wait_s=max_wait_s,
            on_wait=on_wait,
        )
        stack.callback(client.close)
        yield (to_row(place, value) for place, value in enumerate(client.starred(user), 1))


def _live_wait(status: Status) -> Callable[[float, str], None]:
    def show(remaining_s: float, why: str) -> None:
        minutes, seconds = divmod(round(remaining_s), 60)
        left = f"{why}: trying again in {minutes}:{seconds:02}"
        status.update(left if remaining_s else "asking GitHub")

    return show


def _plain_wait() -> Callable[[float, str], None]:
    # For logs: a line when a wait begins and every minute of it.
    due_s = math.inf

    def show(remaining_s: float, why: str) -> None:
        nonlocal due_s
        if remaining_s and remaining_s <= due_s:
            click.echo(f"{why}: trying again in {remaining_s:,.0f} s", err=True)
            due_s = remaining_s - 60
        elif not remaining_s:
            due_s = math.inf

    return show


def _name(file: str) -> str:
    return "standard input" if file == "-" else click.format_filename(file)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _report(summary: Summary, as_json: bool) -> None:
    for line in summary.bad_lines:
        click.echo(shown(f"{summary.source}:{line.line}: {line.reason}"), err=True)
    if summary.bad > len(summary.bad_lines):
        click.echo(f"and {summary.bad - len(summary.bad_lines):,} more", err=True)
    if as_json:
        click.echo(json.dumps(asdict(summary)))
        return
    written = "none written (dry run)" if summary.dry_run else f"{summary.written:,} written"
    click.echo(
        f"{summary.source}: {summary.read:,} rows read, {written}, "
        f"{summary.duplicates:,} duplicates, {summary.bad:,} bad"
    )
