"""`embed-star up`: all servers and processes on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from embed_star.devstack import DATA_DIR

if TYPE_CHECKING:
    from embed_star.devstack.database import Engine
    from embed_star.devstack.stack import LocalStack

_PORT = click.IntRange(0, 65535)


@click.command("up", short_help="run everything on this machine")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Worker processes.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DIR,
    show_default=True,
    help="Rows, queues, passwords and logs.",
)
@click.option(
    "--database-engine",
    type=click.Choice(["auto", "server", "embedded"]),
    default="auto",
    show_default=True,
    help="SurrealDB: a server (SURREAL_BIN, or `surreal` on PATH), or the SDK's embedded "
    "engine. auto: what holds the data already, else a server where there is one.",
)
@click.option("--redis-port", type=_PORT, default=0, help="Default: a free port.")
@click.option("--surrealdb-port", type=_PORT, default=0, help="Default: a free port.")
def command(
    workers: int, data_dir: Path, database_engine: Engine, redis_port: int, surrealdb_port: int
) -> None:
    """Run Redis, SurrealDB, the producer, workers and beat on this machine.

    Other commands find them while they run. Ctrl-C stops everything and keeps the data; a
    second Ctrl-C does not wait for work under way.
    """
    from rich.console import Console

    from embed_star.devstack.processes import StopRequested
    from embed_star.devstack.servers import ServerOptions
    from embed_star.devstack.stack import LocalStack

    console = Console(highlight=False, soft_wrap=True)

    def report(line: str) -> None:
        console.print("·", line, markup=False)

    stack = LocalStack(
        data_dir,
        workers=workers,
        engine=database_engine,
        servers=ServerOptions(redis_port=redis_port, surrealdb_port=surrealdb_port),
        report=report,
    )
    if stack.overridden:
        names = " and ".join(name.upper() for name in stack.overridden)
        report(f"{names} of your environment or .env: not used here, but by other commands")
    with stopped_by_signals(stack):
        try:
            stack.start()
            stack.wait_ready()
            _tell_next(report, stack, data_dir)
            stack.wait()
        except StopRequested:
            pass
        finally:
            stack.stop()
    report("stopped; the data is kept")


def _tell_next(report: Callable[[str], None], stack: LocalStack, data_dir: Path) -> None:
    from embed_star.devstack import examples

    if stack.monitoring_ports:
        ports = ", ".join(f"{name} {port}" for name, port in stack.monitoring_ports.items())
        report(f"metrics on 127.0.0.1: {ports}")
    report(f"ready; logs are in {data_dir / 'logs'}; Ctrl-C stops everything")
    if data_dir != DATA_DIR or stack.overridden:
        file = shlex.quote(str(data_dir.absolute() / "local.env"))
        report(f"in another terminal first: set -a; . {file}; set +a")
    file = os.path.relpath(examples.find("repos.jsonl"))
    report(f"next, in another terminal: embed-star import {shlex.quote(file)}")
    report('                           embed-star search "a web framework"')


@contextmanager
def stopped_by_signals(stack: LocalStack) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP stops the stack, the second one kills it."""
    asked = False

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            stack.kill()
        asked = True
        stack.request_stop()

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signals.append(signal.SIGHUP)
    before = {signum: signal.signal(signum, on_signal) for signum in signals}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
