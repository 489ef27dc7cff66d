"""`embed-star failures`: lists failed rows and their reasons, and retries them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from embed_star.errors import EmbedStarError
from embed_star.models import Key, is_usable, key_from_json, key_to_json
from embed_star.observe.terminal import shown
from embed_star.values import printed

if TYPE_CHECKING:
    from embed_star.store.tables.failures import Failure, Failures

_PAGE_ROWS = 500

_KEY_TYPES = (int, str, UUID, list, dict)

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a row.")
_limit = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), help="Rows."
)
_reason = click.option("--reason", help="Only rows that failed for this reason.")


@click.group(invoke_without_command=True)
@_as_json
@_limit
@click.pass_context
def command(context: click.Context, as_json: bool, limit: int) -> None:
    """List the rows that could not be embedded, and why.

    A row leaves the list by itself when its text changes, or the space.
    """
    if context.invoked_subcommand is None:
        _list(as_json, limit, None)


@command.command("list")
@_as_json
@_limit
@_reason
def list_(as_json: bool, limit: int, reason: str | None) -> None:
    """List them; the same as without a subcommand."""
    _list(as_json, limit, reason)


def _list(as_json: bool, limit: int, reason: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from embed_star.cli.starting import load_settings
    from embed_star.services import open_store

    _check_reason(reason)
    with open_store(load_settings(), to_write=False) as store:
        rows = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("repo", "reason", "attempts", "last tried"):
            rows.add_column(column)
        for failure in _all(store.failures, reason, limit):
            if as_json:
                click.echo(json.dumps(_json(failure)))
            cells = (_shown(failure.key), failure.reason, str(failure.attempts), _when(failure))
            rows.add_row(*map(Text, map(shown, cells)))
        if not as_json:
            Console().print(rows if rows.row_count else "no row has failed")


@command.command()
@click.argument("key")
@_as_json
def show(key: str, as_json: bool) -> None:
    """Show why one row failed, and how to mend it.

    KEY is the row's key as `list` prints it, or a record id such as repo:42.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from embed_star.cli.starting import load_settings
    from embed_star.embed.failure_reasons import reason_of
    from embed_star.services import open_store

    with open_store(load_settings(), to_write=False) as store:
        failure = _find(store.failures, key)
    if as_json:
        words = reason_of(failure.reason)._asdict()
        click.echo(json.dumps({**_json(failure), **words, "space": failure.space}))
        return
    reason = reason_of(failure.reason)
    rows = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in {
        "repo": _shown(failure.key),
        "reason": failure.reason,
        "what happened": reason.meaning,
        "what to do": f"{reason.remedy}; then it is tried again by itself",
        "attempts": str(failure.attempts),
        "last tried": _when(failure),
        "text hash": failure.text_hash or "none",
        "space": failure.space,
    }.items():
        rows.add_row(name, Text(shown(value)))
    Console().print(rows)


@command.command()
@click.argument("keys", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All rows that failed.")
@_reason
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def retry(keys: tuple[str, ...], every: bool, reason: str | None, as_json: bool) -> None:
    """Retry rows, although nothing about them has changed.

    Name them by KEY, by --reason, or take --all. A row that fails again comes back here.
    """
    from embed_star.cli.starting import load_settings
    from embed_star.services import open_store

    if sum((bool(keys), every, reason is not None)) != 1:
        raise click.UsageError("name rows by KEY, or give one of --all and --reason")
    _check_reason(reason)
    with open_store(load_settings()) as store:
        failures = store.failures
        found = [_find(failures, key).key for key in keys]
        released = _release(failures, found) if keys else _release_all(failures, reason, as_json)
    if as_json:
        click.echo(json.dumps({"released": released}))
    else:
        click.echo(f"{released:,} {'row' if released == 1 else 'rows'} will be tried again")


def _release(failures: Failures, keys: Sequence[Key]) -> int:
    failures.release(keys)
    return len(keys)


def _release_all(failures: Failures, reason: str | None, quiet: bool) -> int:
    """Release them page by page. A row that fails again meanwhile is not released twice."""
    from rich.console import Console
    from rich.progress import Progress

    counts = failures.by_reason()
    total = counts.get(reason, 0) if reason else sum(counts.values())
    released, after = 0, None
    bar = Progress(
        console=Console(stderr=True), transient=True, disable=quiet or total < _PAGE_ROWS
    )
    with bar:
        task = bar.add_task("putting back", total=total)
        while page := failures.page(after, _PAGE_ROWS, reason):
            released += _release(failures, [one.key for one in page])
            after = page[-1].key
            bar.update(task, completed=released)
    return released


def _all(failures: Failures, reason: str | None, limit: int) -> Iterator[Failure]:
    after = None
    while limit > 0:
        page = failures.page(after, min(limit, _PAGE_ROWS), reason)
        yield from page
        limit -= len(page)
        if len(page) < _PAGE_ROWS:
            return
        after = page[-1].key


def _check_reason(reason: str | None) -> None:
    from embed_star.embed.failure_reasons import REASONS

    if reason is not None and reason not in REASONS:
        raise click.UsageError(f"--reason is one of {', '.join(REASONS)}")


def _find(failures: Failures, typed: str) -> Failure:
    """The failure whose key was `typed`. Raises EmbedStarError when there is none."""
    found = {_shown(one.key): one for one in failures.find(_candidate_keys(typed))}
    for key in _candidate_keys(typed):
        if _shown(key) in found:
            return found[_shown(key)]
    raise EmbedStarError(
        f"the row {typed} has no failure: see `embed-star failures` for those that have"
    )


def _candidate_keys(typed: str) -> list[Key]:
    """The keys that `typed` may mean, the likeliest first: 42 is a number, then a string."""
    text = typed.removeprefix("repo:")
    keys: list[Any] = []
    for read in (lambda: key_from_json(json.loads(text)), lambda: UUID(text)):
        with suppress(ValueError):
            keys.append(read())
    keys += dict.fromkeys((text, text.strip("⟨⟩`"), typed))
    return [one for one in keys if type(one) in _KEY_TYPES and not _is_huge(one)]


def _is_huge(key: Key) -> bool:
    return isinstance(key, int) and abs(key) >= 2**63


def _shown(key: Key) -> str:
    """The key as `_candidate_keys` reads it back. Example: 42, or ["a", 1] as JSON."""
    if not is_usable(key):
        return printed(key)
    if isinstance(key, list | tuple | Mapping):
        return json.dumps(key_to_json(key), ensure_ascii=False)
    return str(key)


def _when(failure: Failure) -> str:
    return failure.at.strftime("%Y-%m-%d %H:%M:%S")


def _json(failure: Failure) -> dict[str, object]:
    return {
        "repo": key_to_json(failure.key) if is_usable(failure.key) else printed(failure.key),
        "reason": failure.reason,
        "text_hash": failure.text_hash,
        "attempts": failure.attempts,
        "at": failure.at.isoformat(),
    }
