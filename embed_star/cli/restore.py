"""`embed-star restore`: loads a backup into a database."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from embed_star.backup.restoring import Restored


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Verify the backup, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(directory: Path, dry_run: bool, as_json: bool) -> None:
    """Put the vectors and failures of DIRECTORY back, where the database has none.

    The database must be migrated, and embedded in a space of the backup. Existing records
    are never overwritten, so this may run again, and while the fleet runs. Restore the rows
    of `repo` first, and run `embed-star reconcile` afterwards, or leave that to beat.
    """
    from embed_star.backup.manifest import FAILURES
    from embed_star.backup.restoring import Restored, open_backup, verify_files
    from embed_star.cli.backup import bar
    from embed_star.cli.starting import load_settings
    from embed_star.services import Services

    with Services(load_settings()) as services, bar() as progress:
        store = services.store
        store.check()
        manifest = open_backup(directory, services.space, store.migrator.latest)
        task = progress.add_task("verifying", total=sum(one.bytes for one in manifest.files))
        verify_files(directory, manifest, lambda size: progress.advance(task, size))
        records = sum(one.records for one in manifest.tables)
        done: dict[str, Restored] = {}
        started = time.monotonic()
        if not dry_run:
            progress.remove_task(task)
            task = progress.add_task("restoring", total=records)
            done = services.restorer.restore(
                directory, manifest, lambda _, rows: progress.advance(task, rows)
            )
        took_s = time.monotonic() - started
    failures = done.pop(FAILURES, Restored())
    vectors = _sum(list(done.values()))
    if as_json:
        report = {
            "directory": str(directory),
            "records": records,
            "vectors": asdict(vectors),
            "failures": asdict(failures),
            "seconds": round(took_s, 3),
            "dry_run": dry_run,
        }
        click.echo(json.dumps(report, indent=2))
    elif dry_run:
        click.echo(f"{records:,} records in {len(manifest.files):,} files are whole (dry run)")
    else:
        click.echo(f"vectors: {_said(vectors)}\nfailures: {_said(failures)}")


def _sum(parts: list[Restored]) -> Restored:
    from embed_star.backup.restoring import Restored

    return Restored(
        sum(one.written for one in parts),
        sum(one.kept for one in parts),
        sum(one.in_flight for one in parts),
    )


def _said(one: Restored) -> str:
    return (
        f"{one.written:,} written, {one.kept:,} there already, "
        f"{one.in_flight:,} left to the run that works on them"
    )
