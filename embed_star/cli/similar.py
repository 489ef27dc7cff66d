"""`embed-star similar`: what is most like a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embed_star.cli import hits

if TYPE_CHECKING:
    from embed_star.search import Filters


@click.command()
@click.argument("full_name", metavar="OWNER/NAME")
@hits.count("Answers")
@hits.filters
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(full_name: str, k: int, filters: Filters, as_json: bool) -> None:
    """Find the repositories that are most like OWNER/NAME, by the vectors that are stored.

    The score is the cosine similarity of both vectors: 1 is the same text.
    """
    from embed_star.cli.starting import load_settings
    from embed_star.search import NO_FILTERS
    from embed_star.services import Services

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        found = services.similar.find(full_name, k, filters)
    why = "try without the filters" if filters != NO_FILTERS else "it is the only one embedded"
    hits.show(found, as_json=as_json, explain=False, instead=f"no repository fits: {why}")
