"""`embed-star reconcile`: find rows that no event announced."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Walk all repos by key range, and put those without a current vector into the backfill lane.

    It also removes failures and vectors of retired spaces whose repos are deleted. Run it
    after a bulk import (`surreal import` fires no events), after a restore, or on a database
    that is older than embed_star. A run that was stopped continues where it was.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from embed_star.cli.starting import load_settings
    from embed_star.services import Services
    from embed_star.store.tables.checkpoints import Phase

    settings = load_settings()
    with Services(settings) as services:
        services.store.check()
        reconciler = services.reconciler
        walk = reconciler.begin()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        silent = not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=silent) as bar:
            shown = bar.add_task("")
            while walk.phase is not Phase.DONE:
                walk = reconciler.step(walk)
                bar.update(shown, description=f"{walk.checked:,} checked, {walk.found:,} found")
        click.echo(
            f"{walk.checked:,} repos checked, {walk.found:,} rows put into the backlog, "
            f"{walk.removed:,} records of deleted repos removed"
        )
