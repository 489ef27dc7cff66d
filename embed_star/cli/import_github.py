"""What `embed-star import` gets from GitHub, and how it shows its waits."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from embed_star.importing import to_row
from embed_star.importing.readmes import ReadmeClient, with_readmes
from embed_star.importing.starred import StarredClient
from embed_star.observe.terminal import shown

if TYPE_CHECKING:
    from rich.status import Status

    from embed_star.cli.import_pages import Rows, Sink
    from embed_star.importing.github import GitHubClient
    from embed_star.settings import Settings

Client = TypeVar("Client", bound="GitHubClient")

READMES_A_LINE = 500
"""Where there is no terminal, a line of progress after so many."""


@contextmanager
def starred_rows(user: str, settings: Settings, max_wait_s: float, api_url: str) -> Iterator[Rows]:
    """The repositories that `user` starred; a row's line is its place in GitHub's list."""
    with _asking(StarredClient, settings, max_wait_s, api_url) as (client, _):
        yield (to_row(place, value) for place, value in enumerate(client.starred(user), 1))


@contextmanager
def rows_with_readmes(
    rows: Rows, sink: Sink, settings: Settings, max_wait_s: float, api_url: str
) -> Iterator[Rows]:
    """`rows` with their READMEs. Shows on a terminal which is being fetched."""
    with _asking(ReadmeClient, settings, max_wait_s, api_url) as (client, status):
        asked = itertools.count(1)

        def on_row(full_name: str) -> None:
            number = next(asked)
            if status:
                status.update(shown(f"README {number:,}: {full_name}"))
            elif number % READMES_A_LINE == 0:
                click.echo(f"{number:,} READMEs asked for", err=True)

        yield with_readmes(rows, client, sink.etags, on_row)


@contextmanager
def _asking(
    kind: Callable[..., Client], settings: Settings, max_wait_s: float, api_url: str
) -> Iterator[tuple[Client, Status | None]]:
    """A client of GitHub, which shows its waits, and where it shows them on a terminal."""
    with ExitStack() as stack:
        status, on_wait = None, _plain_wait()
        if sys.stderr.isatty():
            from rich.console import Console

            status = stack.enter_context(Console(stderr=True).status("asking GitHub"))
            on_wait = _live_wait(status)
        token = settings.github_token.get_secret_value()
        client = kind(api_url, token, max_wait_s=max_wait_s, on_wait=on_wait)
        stack.callback(client.close)
        yield client, status


def _live_wait(status: Status) -> Callable[[float, str], None]:
    def show(remaining_s: float, why: str) -> None:
        minutes, seconds = divmod(round(remaining_s), 60)
        left = f"{why}: trying again in {minutes}:{seconds:02}"
        status.update(left if remaining_s else "asking GitHub")

    return show


def _plain_wait() -> Callable[[float, str], None]:
    # For logs: a line at the start of a wait, and each minute after.
    due_s = math.inf

    def show(remaining_s: float, why: str) -> None:
        nonlocal due_s
        if remaining_s and remaining_s <= due_s:
            click.echo(f"{why}: trying again in {remaining_s:,.0f} s", err=True)
            due_s = remaining_s - 60
        elif not remaining_s:
            due_s = math.inf

    return show
