"""How the commands that search show what they found, and the options that they share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from embed_star.models import MAX_HITS
from embed_star.observe.terminal import shown
from embed_star.values import jsonable, spoken

if TYPE_CHECKING:
    from rich.table import Table

    from embed_star.search import Hit


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that filter, and hands them to the command as `filters`."""

    @functools.wraps(command)
    def with_filters(**options: Any) -> None:
        from embed_star.search import Filters

        day = options.pop("pushed_since")
        chosen = {name: options.pop(name) for name in _FILTERS}
        filters = Filters(**chosen, pushed_since=day and day.date())
        command(filters=filters, **options)

    for option in (
        click.option("--archived/--no-archived", default=None, help="Only archived ones, or none."),
        click.option(
            "--pushed-since", type=_DAY, help="Only repos pushed to on this day or later."
        ),
        click.option("--owner", help="Only repos of this owner."),
        click.option("--topic", help="Only repos with this topic."),
        click.option("--min-stars", type=click.IntRange(0), help="Only repos with as many stars."),
        click.option("--language", help="Only repos in this main language."),
    ):
        with_filters = option(with_filters)
    return with_filters


_FILTERS = ("language", "min_stars", "topic", "owner", "archived")
_DAY = click.DateTime(["%Y-%m-%d"])


def count(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds `-k`, the number of `what`."""
    return click.option(
        "-k", default=10, show_default=True, type=click.IntRange(1, MAX_HITS), help=f"{what}."
    )


def show(found: Sequence[Hit], *, as_json: bool, explain: bool, instead: str) -> None:
    """Print the hits, or `instead` where there are none."""
    if as_json:
        print_json([_json(hit, explain) for hit in found])
    elif found:
        from rich.console import Console

        Console().print(table(found, explain=explain))
    else:
        click.echo(instead)


def print_json(value: Any) -> None:
    """Print what a row may hold as JSON."""
    text = json.dumps(jsonable(value), indent=2, ensure_ascii=False)
    click.echo(shown(text, keep="\n"))


def table(hits: Sequence[Hit], *, explain: bool = False) -> Table:
    """The hits as a table for people; with `explain`, the reasons in place of descriptions."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    rows.add_column("score", justify="right")
    rows.add_column("repository", style="bold", no_wrap=True, max_width=40)
    rows.add_column("stars", justify="right")
    rows.add_column("language", no_wrap=True, max_width=16)
    # This column shrinks on a narrow terminal. There is no room for both.
    last = "why" if explain else "description"
    rows.add_column(last, overflow="ellipsis", no_wrap=not explain, ratio=1)
    for hit in hits:
        rows.add_row(*map(Text, _cells(hit, explain)))
    return rows


def _cells(hit: Hit, explain: bool) -> tuple[str, ...]:
    repo = hit.repo
    stars = repo.get("stargazers_count")
    why = hit.name.value if hit.name else "README" if hit.passage else "meaning"
    about = plain(repo.get("description"))
    if hit.passage:
        about = plain(f"{hit.passage.heading}: {hit.passage.body}".removeprefix(": "))
    return (
        f"{hit.score:.3f}",
        name_of(repo),
        f"{stars:,}" if isinstance(stars, int) else "",
        plain(repo.get("language")),
        why if explain else about,
    )


def name_of(repo: Mapping[str, Any]) -> str:
    """The full name of a repo, or its key."""
    return plain(repo.get("full_name") or repo["id"].id)


def plain(value: Any) -> str:
    """A value of a row, without control characters, which a terminal would obey."""
    shown = "" if value is None else spoken(value)
    return "".join(character for character in shown if character.isprintable())


def _json(hit: Hit, explain: bool) -> dict[str, Any]:
    found = hit.to_dict()
    return found if explain else {name: found[name] for name in found if name != "why"}
