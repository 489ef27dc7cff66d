"""`embed-star get`: what is known of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from embed_star.cli import hits

if TYPE_CHECKING:
    from rich.table import Table

    from embed_star.search import Repository

_FIRST = ("full_name", "description", "language", "topics", "stargazers_count", "html_url")
"""The fields of a row that people look for; `--json` has them all."""


@click.command()
@click.argument("full_name", metavar="OWNER/NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all fields of the row.")
def command(full_name: str, as_json: bool) -> None:
    """Show the row of OWNER/NAME, and how far its embedding is."""
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        found = services.lookup.get(full_name)
    if as_json:
        hits.print_json(found.to_dict())
    else:
        from rich.console import Console

        Console().print(_table(found))


def _table(found: Repository) -> Table:
    from rich.table import Table
    from rich.text import Text

    rows = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows.add_column(style="bold")
    rows.add_column()
    for name in _FIRST:
        value = found.repo.get(name)
        if value is not None and value != []:
            rows.add_row(name, Text(_said(value)))
    rows.add_row("embedding", Text(_state(found)))
    if found.passages:
        rows.add_row("passages", f"{found.passages:,}, of its README")
    return rows


def _said(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(hits.plain(part) for part in value)
    return hits.plain(value)


def _state(found: Repository) -> str:
    if found.embedded_at:
        cut = ", of the beginning of its text" if found.cut else ""
        return f"of {found.embedded_at:%Y-%m-%d %H:%M:%S} UTC{cut}"
    if found.failure:
        return f"failed: {found.failure}; `embed-star failures show` says what to change"
    return "pending"
