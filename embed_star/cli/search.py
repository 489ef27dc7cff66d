"""`embed-star search`: find repositories by name and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embed_star.cli import hits

if TYPE_CHECKING:
    from embed_star.search import Filters


@click.command()
@click.argument("query")
@hits.count("Answers")
@hits.filters
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vector"]),
    default="hybrid",
    show_default=True,
    help="`hybrid` puts repos whose name matches first, `vector` goes by meaning alone.",
)
@click.option("--explain", is_flag=True, help="Say why each is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    query: str,
    k: int,
    filters: Filters,
    mode: str,
    explain: bool,
    as_json: bool,
) -> None:
    """Find the repositories that QUERY names or describes."""
    from embed_star.cli.starting import load_settings
    from embed_star.search import NO_FILTERS, Mode
    from embed_star.services import Services

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        found = services.search.find(query, k, filters, Mode(mode))
    why = "try without the filters" if filters != NO_FILTERS else "is anything embedded yet"
    instead = f"no repository fits: {why}? See `embed-star status`"
    hits.show(found, as_json=as_json, explain=explain, instead=instead)
