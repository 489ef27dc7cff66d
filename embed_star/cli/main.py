"""`embed-star`: finds the command and prints every error as one sentence.

Exit codes: 0 success; 1 failure; 2 a setting or an argument is wrong.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from embed_star import __version__
from embed_star.errors import ConfigError, EmbedStarError
from embed_star.observe.terminal import shown
from embed_star.start import heed_sigterm

COMMANDS = {
    "up": "run Redis, SurrealDB, producer, worker and beat on this machine",
    "demo": "the whole way on example data, in a minute or so",
    "migrate": "bring the database's schema up to date",
    "import": "put repositories into the database",
    "watch": "the producer: find pending rows and enqueue them",
    "reconcile": "find rows that no event announced",
    "status": "what is embedded, pending, in flight and failed",
    "search": "find repositories by name and meaning",
    "similar": "what is most like a repository",
    "get": "the row of a repository, and its embedding",
    "duplicates": "repositories that are nearly the same",
    "mcp": "search as a tool for assistants (MCP)",
    "backup": "save the vectors and failures into a directory",
    "restore": "put a backup's vectors and failures back",
    "failures": "rows that could not be embedded",
    "space": "the embedding spaces, and how a retired one is dropped",
    "doctor": "check settings, database, Redis and provider",
}
"""Each name is a file in this package: `import` lives in `import_.py`."""


class _Commands(click.Group):
    """Imports the file of a command only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        file = "import_" if cmd_name == "import" else cmd_name
        command: click.Command = importlib.import_module(f"embed_star.cli.{file}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands)
@click.version_option(__version__, prog_name="embed-star")
def cli() -> None:
    """Keep a current embedding beside every GitHub repository in SurrealDB."""


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; never returns."""
    heed_sigterm()
    try:
        cli.main(args=argv, prog_name="embed-star", standalone_mode=True)
    except ConfigError as error:
        click.echo(shown(f"embed-star: {error}"), err=True)
        sys.exit(2)
    except EmbedStarError as error:
        click.echo(shown(f"embed-star: {error}"), err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        click.echo("embed-star: no space is left where its output goes", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
