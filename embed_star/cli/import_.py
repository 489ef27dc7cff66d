"""`embed-star import`: writes repositories from a file, or a user's stars, to the database."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from embed_star.errors import EmbedStarError, InputFileError
from embed_star.models import Lane
from embed_star.observe.terminal import shown

if TYPE_CHECKING:
    from embed_star.cli.import_pages import Rows, Sink, Summary
    from embed_star.importing import Maps
    from embed_star.settings import Settings

GITHUB_API_URL = "https://api.github.com"


@contextmanager
def open_sink(settings: Settings) -> Iterator[Sink]:
    """The database as a Sink."""
    from embed_star.cli.import_pages import StoreSink
    from embed_star.services import open_store

    with open_store(settings) as store:
        yield StoreSink(store)


@click.command()
@click.argument("file", required=False)
@click.option("--starred", metavar="USER", help="What USER starred on GitHub, instead of FILE.")
@click.option(
    "--readme",
    is_flag=True,
    help="Fetch their READMEs from GitHub, too; alone: those of all rows that are there.",
)
@click.option(
    "--lane",
    type=click.Choice([lane.name.lower() for lane in Lane]),
    default=Lane.FRESH.name.lower(),
    show_default=True,
    help="backfill: embed these rows after all fresh ones.",
)
@click.option(
    "--map",
    "maps",
    metavar="OURS=THEIRS",
    multiple=True,
    help="Which key, dotted path or column of FILE is which field: full_name=repo,stars=rating.",
)
@click.option("--dry-run", is_flag=True, help="Read and count, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--max-wait",
    "max_wait_s",
    type=click.IntRange(min=0),
    default=3600,
    show_default=True,
    help="Seconds to wait, for one page or README, while GitHub's rate limit is used up.",
)
@click.option(
    "--github-api",
    metavar="URL",
    default=GITHUB_API_URL,
    callback=lambda _context, _option, value: _checked_url(value),
    show_default=True,
    help="Where GitHub's API is, for --starred and --readme.",
)
@click.pass_context
def command(
    ctx: click.Context,
    file: str | None,
    starred: str | None,
    readme: bool,
    lane: str,
    maps: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    max_wait_s: int,
    github_api: str,
) -> None:
    """Put repositories into the database, from FILE or a user's stars.

    With --readme, each README goes into the field `readme`, unless the row brings one along.
    What is unchanged on GitHub since is not fetched again, so an import that was stopped goes
    on where it was.

    FILE is JSON of REST, of GraphQL or of `gh`, in lines, in arrays or inside of an answer,
    or CSV with a header; it may be compressed, and `-` reads standard input. A row that is
    there already is updated, so an import may be run again. Bad rows, and those that the
    database refuses, are left out and listed; the exit code is then 1.
    """
    from embed_star.cli.import_pages import Summary, write_rows
    from embed_star.cli.starting import load_settings

    sources = (file is not None) + (starred is not None)
    if sources > 1 or (sources == 0 and (dry_run or not readme)):
        raise click.UsageError("give either FILE (- is standard input) or --starred USER")
    ours = _maps(maps, starred)
    source = f"{starred}'s stars" if starred is not None else _name(file) if file else "repo"
    summary = Summary(source, lane, dry_run)
    try:
        with ExitStack() as stack:
            # A dry run of a file needs no settings: there may be no database yet.
            settings = load_settings() if starred is not None or not dry_run else None
            rows: Rows | None = None
            if starred is not None and settings:
                from embed_star.cli.import_github import starred_rows

                rows = stack.enter_context(starred_rows(starred, settings, max_wait_s, github_api))
            elif file is not None:
                rows = stack.enter_context(file_rows(file, ours))
            sink = stack.enter_context(open_sink(settings)) if settings and not dry_run else None
            if rows is None:
                rows = sink.rows() if sink else ()
            if readme and sink and settings:
                from embed_star.cli.import_github import rows_with_readmes

                rows = stack.enter_context(
                    rows_with_readmes(rows, sink, settings, max_wait_s, github_api)
                )
            write_rows(rows, sink, Lane[lane.upper()], summary)
    except (EmbedStarError, KeyboardInterrupt):
        _print_faults(summary)
        if summary.written:
            click.echo(f"{summary.written:,} rows were written before this:", err=True)
        raise
    _report(summary, as_json)
    ctx.exit(1 if summary.bad else 0)


def _checked_url(value: str) -> str:
    from embed_star.settings.fields import http_url

    try:
        return http_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _maps(texts: tuple[str, ...], starred: str | None) -> Maps:
    from embed_star.importing import parse_maps

    if texts and starred is not None:
        raise click.UsageError("--map is for FILE: what GitHub gives has its names already")
    try:
        return parse_maps(texts)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def file_rows(file: str, maps: Maps) -> Iterator[Rows]:
    """The rows of a file. Shows a bar of bytes on a terminal. Raises InputFileError."""
    from embed_star.importing import read_rows

    name = _name(file)
    if file == "-":
        if sys.stdin is None:  # `<&-`
            raise InputFileError("standard input is closed: hand a file in, or name one")
        yield read_rows(sys.stdin.buffer, name=name, maps=maps)
        return
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(Path(file).open("rb"))
        except (OSError, ValueError) as error:
            raise InputFileError(f"cannot read {name}: {_why(error)}") from error
        status = os.fstat(handle.fileno())
        counted: BinaryIO = handle
        if sys.stderr.isatty() and stat.S_ISREG(status.st_mode):  # a pipe has no length
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
            )
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            stack.enter_context(bar)
            counted = bar.wrap_file(handle, total=status.st_size, description=name)
        yield read_rows(counted, name=name, maps=maps)


def _name(file: str) -> str:
    return "standard input" if file == "-" else click.format_filename(file)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _print_faults(summary: Summary) -> None:
    from embed_star.cli.import_pages import in_words

    for line in summary.bad_lines:
        click.echo(shown(f"{summary.source}:{line.line}: {line.reason}"), err=True)
    if summary.bad > len(summary.bad_lines):
        click.echo(f"and {summary.bad - len(summary.bad_lines):,} more", err=True)
    for words in in_words(summary):
        click.echo(shown(words), err=True)


def _report(summary: Summary, as_json: bool) -> None:
    _print_faults(summary)
    if as_json:
        click.echo(json.dumps(asdict(summary)))
        return
    written = "none written (dry run)" if summary.dry_run else f"{summary.written:,} written"
    click.echo(
        f"{summary.source}: {summary.read:,} rows read, {written}, "
        f"{summary.duplicates:,} duplicates, {summary.bad:,} bad"
    )
