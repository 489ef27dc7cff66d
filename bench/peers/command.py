"""`python -m bench peers`: the same rows through embed_star, pgai and CocoIndex, in turns."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.peers import report
from bench.peers.contenders import (
    SHAPE,
    CocoIndex,
    Contender,
    EmbedStar,
    Pgai,
    Row,
    memory_mb,
    new_rows,
)
from bench.peers.postgres import Postgres, environment
from bench.peers.report import Killed, Run
from bench.stack import DIMENSIONS, Bench, running
from bench.usage import family_cpu_s
from embed_star.errors import EmbedStarError
from tests.support.scripted_provider import ScriptedProvider

GIVE_UP_S = 180.0
DATABASES = {"embed_star": "SurrealDB"}
BARE_ROWS = 100
"""In each INSERT."""


def main(arguments: list[str]) -> None:
    """Print the figures; with `--write`, put them into the document, too."""
    parser = argparse.ArgumentParser(prog="python -m bench peers", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000, help="rows of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    console.print("· the peers' packages …")
    programs = environment()
    runs: list[Run] = []
    bare: list[Run] = []
    killed: list[Killed] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(programs, Path(folder)) as postgres,
        running(SHAPE) as bench,
    ):
        given = (programs, postgres, bench.provider.openai_url, Path(folder))
        contenders = (EmbedStar(bench), Pgai(*given), CocoIndex(*given))
        sets = _Sets(options.rows)
        for turn in range(options.turns):
            for at in range(len(contenders)):
                contender = contenders[(turn + at) % len(contenders)]
                console.print(f"· turn {turn + 1}: {contender.name} …")
                runs.append(_measured(contender, bench.provider, sets.next()))
                console.print(f"  {runs[-1]}")
            bare += [_bare_surrealdb(bench, options.rows // 2)]
            bare += [_bare_postgres(postgres, options.rows // 2)]
        for contender in contenders:
            console.print(f"· killed: {contender.name} …")
            killed.append(_killed(contender, bench.provider, sets.next()))
    runs.sort(key=lambda run: [one.name for one in contenders].index(run.name))
    told = report.tables(runs, bare, killed)
    print(told)
    if options.write:
        report.write(told)


class _Sets:
    """Rows that nobody has seen, each time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._first = 1_000_000

    def next(self) -> list[Row]:
        self._first += self._rows
        return new_rows(self._first, self._rows)


def _measured(contender: Contender, provider: ScriptedProvider, rows: list[Row]) -> Run:
    _begin(contender, provider, rows)
    started, own, database = time.perf_counter(), _own_s(contender), _databases_s(contender)
    try:
        _all_written(contender, provider, len(rows))
        seconds = time.perf_counter() - started
        stats = provider.stats()
        return Run(
            contender.name,
            DATABASES.get(contender.name, "PostgreSQL"),
            len(rows),
            seconds,
            _own_s(contender) - own,
            _databases_s(contender) - database,
            stats["calls"],
            stats["texts"],
            memory_mb(contender.own()),
        )
    finally:
        contender.end()


def _killed(contender: Contender, provider: ScriptedProvider, rows: list[Row]) -> Killed:
    _begin(contender, provider, rows)
    try:
        _until(contender, lambda: contender.written() >= len(rows) // 3, 0.02)
        contender.kill()
        started, had = time.perf_counter(), contender.written()
        _until(contender, lambda: contender.written() >= len(rows), 0.05)
        seconds = time.perf_counter() - started
        return Killed(contender.name, len(rows), had, seconds, provider.stats()["texts"])
    finally:
        contender.end()


def _begin(contender: Contender, provider: ScriptedProvider, rows: list[Row]) -> None:
    """Wait for the first call: what comes before is the start, and the look for rows."""
    provider.reset()
    contender.begin(rows)
    _until(contender, lambda: provider.stats()["calls"] > 0, 0.005)


def _all_written(contender: Contender, provider: ScriptedProvider, rows: int) -> None:
    """Ask the database only once the provider has answered for all: to look costs it time."""
    _until(contender, lambda: provider.stats()["texts"] >= rows, 0.02)
    _until(contender, lambda: contender.written() >= rows, 0.02)


def _until(contender: Contender, condition: Callable[[], bool], poll_s: float) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        contender.check()
        if time.monotonic() > deadline:
            raise EmbedStarError(f"{contender.name} has not done it in {GIVE_UP_S:.0f} s")
        time.sleep(poll_s)


def _own_s(contender: Contender) -> float:
    return sum(map(family_cpu_s, contender.own()))


def _databases_s(contender: Contender) -> float:
    return sum(map(family_cpu_s, contender.databases()))


def _bare_surrealdb(bench: Bench, rows: int) -> Run:
    pid = bench.stack.processes["surrealdb"].pid
    used = family_cpu_s(pid)
    seconds = rows / bench.bare_insert_rate(rows)
    used = family_cpu_s(pid) - used
    return Run("bare INSERT, SurrealDB", "SurrealDB", rows, seconds, 0, used)


def _bare_postgres(postgres: Postgres, rows: int) -> Run:
    """The same vectors as `Bench.bare_insert_rate`, as many in a statement, made beforehand."""
    vectors = np.random.default_rng(7).standard_normal((rows, DIMENSIONS)).astype(np.float32)
    values = [f"({key}, '{'0' * 32}', '{vectors[key].tolist()}')" for key in range(rows)]
    pages = [", ".join(values[start : start + BARE_ROWS]) for start in range(0, rows, BARE_ROWS)]
    postgres.ask(f"CREATE TABLE bare (id bigint PRIMARY KEY, h text, v vector({DIMENSIONS}))")
    used, started = family_cpu_s(postgres.pid), time.perf_counter()
    for page in pages:
        postgres.ask(f"INSERT INTO bare VALUES {page}")
    seconds = time.perf_counter() - started
    used = family_cpu_s(postgres.pid) - used
    postgres.ask("DROP TABLE bare")
    return Run("bare INSERT, PostgreSQL", "PostgreSQL", rows, seconds, 0, used)
