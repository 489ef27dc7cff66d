"""`embed-star demo`: imports, embeds and searches example data, and removes it again."""

from __future__ import annotations

from pathlib import Path

import click

from embed_star.devstack import DATA_DIR


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DIR / "demo",
    show_default=True,
    help="Made for the demo, and removed after it.",
)
@click.option("--keep", is_flag=True, help="Keep the data directory.")
def command(data_dir: Path, keep: bool) -> None:
    """Start everything, embed the example repositories, search them, stop everything.

    Needs no key, no Docker and no network. Exit code 0 only when all of it worked.
    """
    from embed_star.cli import demonstration

    demonstration.run(data_dir, keep=keep)
