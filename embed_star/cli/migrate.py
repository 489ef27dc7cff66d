"""`embed-star migrate`: bring the database's schema up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from embed_star.errors import EmbedStarError, StoreUnavailable

if TYPE_CHECKING:
    from embed_star.models import Space
    from embed_star.services import Services
    from embed_star.store.migrations import Migration

WAIT_POLL_S = 1.0


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--bootstrap",
    "with_bootstrap",
    is_flag=True,
    help="First make namespace, database and DB_USER, as ROOT_DB_USER / ROOT_DB_PASS.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Change nothing: wait until another `migrate` has done it. "
    "With --bootstrap: wait for a server that does not answer yet.",
)
def command(dry_run: bool, with_bootstrap: bool, wait_s: float | None) -> None:
    """Apply the missing migrations, and make the settings' embedding space active.

    May run in several places at once, and again after an interruption.
    """
    if wait_s is not None and dry_run:
        raise click.UsageError("--wait and --dry-run do not go together")
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    settings = load_settings()
    if wait_s is not None and not with_bootstrap:
        with Services(settings) as services:
            # The server may not be up yet, nor the user made.
            _retry(services.store.check, EmbedStarError, wait_s)
        return
    if with_bootstrap:
        from embed_star.services.store import target_of
        from embed_star.settings import load_root_settings
        from embed_star.store.bootstrap import bootstrap

        root = load_root_settings()
        target = replace(
            target_of(settings),
            user=root.root_db_user,
            password=root.root_db_pass.get_secret_value(),
            root=True,
        )
        if dry_run:
            click.echo(
                f"would make user {settings.db_user} on {target.namespace}/{target.database}"
            )
            return
        user, password = settings.db_user, settings.db_pass.get_secret_value()
        _retry(lambda: bootstrap(target, user, password), StoreUnavailable, wait_s or 0.0)
        click.echo(f"user {settings.db_user} on {target.namespace}/{target.database}: ready")
    with Services(settings) as services:
        services.store.spaces.check_server(settings.text_fields)  # also before the first migration
        if dry_run:
            _dry_run(services)
        else:
            _apply(services)


def _apply(services: Services) -> None:
    store, settings = services.store, services.settings
    applied = store.migrator.apply(lambda migration: click.echo(f"applied {_name(migration)}"))
    if named := store.installation.ensure():
        click.echo(f"installation {named}: restart all processes if they run")
    before = [one.space for one in store.spaces.known() if one.active]
    changed = store.spaces.ensure(services.space, settings.text_fields)
    if changed:
        click.echo(f"embedding space {services.space.name}: active")
    if renewed := not store.spaces.has_current_event(settings.text_fields):
        store.spaces.renew_event(settings.text_fields)
        click.echo("the event on the table repo: replaced by this version's")
    if before:
        _say_what_it_takes(services, before, changed=changed)
    if not (applied or named or changed or renewed):
        click.echo("nothing to do: the database is up to date")


def _say_what_it_takes(services: Services, before: Sequence[Space], *, changed: bool) -> None:
    from embed_star.cli import cost

    if services.space not in before:
        click.echo(
            "the model or TEXT_FIELDS changed: every repo is embedded anew, but for those "
            "that have a vector of it"
        )
        click.echo(cost.of_all(services))
        click.echo("restart producer, workers and beat if they run with other settings")
    elif changed and (told := cost.of_readmes(services)):
        click.echo(told)


def _retry(attempt: Callable[[], None], error_type: type[EmbedStarError], wait_s: float) -> None:
    """Call `attempt` until it raises no `error_type`. Raises the last one after `wait_s`."""
    deadline_s = time.monotonic() + wait_s
    said = ""
    while True:
        try:
            attempt()
            return
        except error_type as error:
            if time.monotonic() + WAIT_POLL_S > deadline_s:
                raise
            if str(error) != said:
                said = str(error)
                click.echo(f"waiting: {said}")
        time.sleep(WAIT_POLL_S)


def _dry_run(services: Services) -> None:
    from embed_star.cli import cost

    store = services.store
    pending = store.migrator.pending()
    for migration in pending:
        click.echo(f"would apply {_name(migration)}")
    # Before the first migration there is no table of spaces.
    if pending or not store.spaces.is_active(store.space):
        click.echo(f"would make {store.space.name} active: every repo is embedded in it")
        if not pending:
            click.echo(cost.of_all(services))
    elif not store.spaces.notices_readmes(store.space, services.settings.text_fields):
        click.echo("would let the event notice READMEs, and make a table of their passages")
    elif not store.spaces.has_names(store.space):
        click.echo("would give the vectors names, and an index of them")
    elif not store.spaces.has_current_event(services.settings.text_fields):
        click.echo("would replace the event on the table repo by this version's")
    else:
        click.echo("nothing to do: the database is up to date")


def _name(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"
