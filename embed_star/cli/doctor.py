"""`embed-star doctor`: check settings, database, Redis and provider, one line each."""

from __future__ import annotations

import json
import sys

import click

from embed_star.observe.terminal import shown


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Try everything that embed_star needs, and say what to change."""
    from embed_star.cli import checks

    results = checks.results()
    if as_json:
        found = {name: {"ok": ok, "detail": text} for name, (ok, text) in results.items()}
        click.echo(json.dumps(found, indent=2))
    else:
        for name, (ok, text) in results.items():
            click.echo(shown(f"{'ok  ' if ok else 'FAIL'}  {name:9} {text}"))
    if not all(ok for ok, _ in results.values()):
        sys.exit(1)
