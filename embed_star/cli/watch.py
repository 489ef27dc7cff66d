"""`embed-star watch`: the producer."""

from __future__ import annotations

import click

from embed_star.start import uncollected


@click.command()
def command() -> None:
    """Find pending rows and enqueue them, until stopped with Ctrl-C or SIGTERM.

    Several may run: one leads, the others take over within LEADER_LEASE_S.
    """
    with uncollected():
        from embed_star.cli import producer

    producer.run()
