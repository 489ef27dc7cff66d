"""`embed-star mcp`: the search as tools for an assistant (Model Context Protocol)."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import click

from embed_star.errors import ConfigError

TOKEN_FILE = Path(".embed-star/mcp-token")
_SHORTEST_TOKEN = 32


@click.command()
@click.option("--http", is_flag=True, help="Serve HTTP on 127.0.0.1 in place of stdio.")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="With --http; 0: a free one.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=TOKEN_FILE,
    show_default=True,
    help="With --http: the bearer token; made when it is not there.",
)
def command(http: bool, port: int, token_file: Path) -> None:
    """Let an assistant search: an MCP server. Its tools search, similar, get and status only read.

    An assistant starts it by itself and speaks with it over stdin and stdout.
    """
    try:
        from embed_star.mcp import server
    except ImportError:
        raise ConfigError("the MCP server needs a package: pip install 'embed-star[mcp]'") from None
    from embed_star.api import Client
    from embed_star.observe import logging
    from embed_star.settings import load_settings

    settings = load_settings()
    logging.configure(settings.log_level, settings.log_format)
    with Client() as client:
        if not http:
            server.serve_stdio(client)
            return
        token = read_token(token_file)
        with server.listen(port) as listening:
            url = f"http://{server.HOST}:{listening.getsockname()[1]}/mcp"
            click.echo(f"{url}, with the bearer token in {token_file}", err=True)
            server.serve_http(client, listening, token)


def read_token(file: Path) -> str:
    """The token in `file`, which is made, for its owner alone, when it is not there.

    Raises ConfigError when others may read it, or when it is too short to be a secret.
    """
    try:
        try:
            return _make(file)
        except FileExistsError:
            pass
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigError(f"others may read the token in {file}: chmod 600 {file}")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no plain text"
        raise ConfigError(f"the token in {file} cannot be read or made: {why}") from None
    if len(token) < _SHORTEST_TOKEN:
        raise ConfigError(
            f"the token in {file} has fewer than {_SHORTEST_TOKEN} characters: delete the file, "
            "and a new one is made"
        )
    return token


def _make(file: Path) -> str:
    """Write a new token. Raises FileExistsError, and changes nothing, when the file is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as written:
        written.write(f"{token}\n")
    return token
