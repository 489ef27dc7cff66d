"""`embed-star space`: lists the embedding spaces, and drops retired ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from embed_star.errors import ConfigError
from embed_star.observe.terminal import shown

if TYPE_CHECKING:
    from embed_star.store.tables.spaces import KnownSpace, Spaces


@click.group()
def command() -> None:
    """The embedding spaces: one is active, those before it are retired.

    A retired space keeps its vectors, so that a change of the model can be taken back.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List them, with how many vectors each has."""
    with _spaces() as spaces:
        found = [_row(one, spaces.count(one.space)) for one in spaces.known()]
    found.sort(key=lambda one: (one["state"], one["name"]))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "state", "model", "vectors"):
        rows.add_column(column)
    for one in found:
        model = f"{one['provider']} {one['model']}, {one['dimensions']} dimensions"
        cells = (one["name"], one["state"], model, f"{one['vectors']:,}")
        rows.add_row(*map(Text, map(shown, cells)))
    Console().print(rows if found else "there is no space: run `embed-star migrate`")


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do it: what is removed was paid for.")
def drop(name: str, yes: bool) -> None:
    """Remove the retired space NAME for ever: its vectors, its failures and its record."""
    with _spaces(to_write=True) as spaces:
        known = {one.space.name: one.space for one in spaces.known()}
        vectors = spaces.count(known[name]) if name in known else 0
        if name in known and not yes:
            raise ConfigError(
                f"{name} has {vectors:,} vectors, which would be gone for ever: say --yes"
            )
        spaces.drop(name)
    click.echo(f"{name}: dropped, with {vectors:,} vectors")


@contextmanager
def _spaces(*, to_write: bool = False) -> Iterator[Spaces]:
    """The spaces, without a check of the settings' own: those may precede or follow a change."""
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    with Services(load_settings()) as services:
        store = services.store
        if to_write:
            store.database.check_rights()
        store.migrator.check()
        yield store.spaces


def _row(one: KnownSpace, vectors: int) -> dict[str, Any]:
    space = one.space
    return {
        "name": space.name,
        "state": "active" if one.active else "retired",
        "provider": space.provider,
        "model": space.model,
        "dimensions": space.dimensions,
        "text_fields": list(one.text_fields),
        "vectors": vectors,
    }
