"""`embed-star duplicates`: repositories that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from embed_star.cli import hits

if TYPE_CHECKING:
    from rich.table import Table

    from embed_star.search import Duplicate, Filters


@click.command()
@hits.count("Pairs")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Least cosine similarity of a pair.",
)
@hits.filters
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(k: int, min_score: float, filters: Filters, as_json: bool) -> None:
    """Find pairs of repositories that mean nearly the same: forks, mirrors, copies.

    Compares the stored vectors of all repos that pass the filters, each with each.
    """
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        found = services.duplicates.find(k, min_score=min_score, filters=filters)
    if as_json:
        hits.print_json([_json(pair) for pair in found])
    elif found:
        from rich.console import Console

        Console().print(_table(found))
    else:
        click.echo(f"no two repositories are as similar as {min_score:g}: try a lower --min-score")


def _json(pair: Duplicate) -> dict[str, object]:
    return {
        "score": round(pair.score, 6),
        "why": "same_text" if pair.same_text else "similar_meaning",
        "repos": [pair.repo, pair.other],
    }


def _table(pairs: Sequence[Duplicate]) -> Table:
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0))
    rows.add_column("score", justify="right")
    rows.add_column("repository", style="bold", overflow="fold")
    rows.add_column("and", style="bold", overflow="fold")
    rows.add_column("why")
    for pair in pairs:
        names = (hits.name_of(pair.repo), hits.name_of(pair.other))
        rows.add_row(*map(Text, (f"{pair.score:.3f}", *names, pair.reason)))
    return rows
