"""`embed-star search`: find repositories by meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from embed_star.observe.terminal import shown
from embed_star.values import spoken

if TYPE_CHECKING:
    from rich.table import Table

    from embed_star.search import Hit


@click.command()
@click.argument("query")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Answers.")
@click.option("--language", help="Only repos in this main language.")
@click.option("--min-stars", type=click.IntRange(0), help="Only repos with as many stars.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(query: str, k: int, language: str | None, min_stars: int | None, as_json: bool) -> None:
    """Find repositories whose description means what QUERY says."""
    from embed_star.api.results import Result
    from embed_star.search import Filters
    from embed_star.services import Services
    from embed_star.settings import load_settings

    settings = load_settings()
    with Services(settings) as services:
        services.store.check(to_write=False)
        hits = services.search.find(query, k, Filters(language, min_stars))
    if as_json:
        found = json.dumps([Result.of(hit).to_dict() for hit in hits], indent=2, ensure_ascii=False)
        click.echo(shown(found, keep="\n"))
    elif hits:
        from rich.console import Console

        Console().print(table(hits))
    else:
        why = "try without the filters" if language or min_stars else "is anything embedded yet"
        click.echo(f"no repository fits: {why}? See `embed-star status`")


def table(hits: Sequence[Hit]) -> Table:
    """The hits as a table for people."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    rows.add_column("score", justify="right")
    rows.add_column("repository", style="bold", no_wrap=True, max_width=40)
    rows.add_column("stars", justify="right")
    rows.add_column("language", no_wrap=True, max_width=16)
    # This column shrinks on a narrow terminal.
    rows.add_column("description", overflow="ellipsis", no_wrap=True, ratio=1)
    for hit in hits:
        rows.add_row(*map(Text, _cells(hit)))
    return rows


def _cells(hit: Hit) -> tuple[str, ...]:
    repo = hit.repo
    stars = repo.get("stargazers_count")
    return (
        f"{hit.score:.3f}",
        _plain(repo.get("full_name") or repo["id"].id),
        f"{stars:,}" if isinstance(stars, int) else "",
        _plain(repo.get("language")),
        _plain(repo.get("description")),
    )


def _plain(value: Any) -> str:
    """A value of a row, without control characters, which a terminal would obey."""
    shown = "" if value is None else spoken(value)
    return "".join(character for character in shown if character.isprintable())
