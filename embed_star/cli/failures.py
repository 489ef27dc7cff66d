"""`embed-star failures`: rows that could not be embedded."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
from rich.console import Console
from rich.table import Table

from embed_star.models import is_usable, key_to_json
from embed_star.services import open_store
from embed_star.settings import load_settings
from embed_star.store.failures import Failure, Failures

_PAGE_ROWS = 500


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a row.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Rows.")
def command(as_json: bool, limit: int) -> None:
    """List the rows that could not be embedded, and why.

    A row leaves the list by itself when its text changes.
    """
    with open_store(load_settings()) as store:
        rows = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("repo", "reason", "attempts", "last tried"):
            rows.add_column(column)
        for failure in _first(store.failures, limit):
            if as_json:
                click.echo(json.dumps(_json(failure)))
            at = failure.at.strftime("%Y-%m-%d %H:%M:%S")
            rows.add_row(str(failure.key), failure.reason, str(failure.attempts), at)
        if not as_json:
            Console().print(rows if rows.row_count else "no row has failed")


def _first(failures: Failures, limit: int) -> Iterator[Failure]:
    after = None
    while limit > 0:
        page = failures.page(after, min(limit, _PAGE_ROWS))
        yield from page
        limit -= len(page)
        if len(page) < _PAGE_ROWS:
            return
        after = page[-1].key


def _json(failure: Failure) -> dict[str, object]:
    return {
        "repo": key_to_json(failure.key) if is_usable(failure.key) else str(failure.key),
        "reason": failure.reason,
        "text_hash": failure.text_hash,
        "attempts": failure.attempts,
        "at": failure.at.isoformat(),
    }
