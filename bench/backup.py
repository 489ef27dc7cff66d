"""`python -m bench backup`: how fast a backup is written and restored, and in what memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.stack import DIMENSIONS
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.services import Services
from embed_star.settings import Settings, load_settings
from embed_star.store.client.codec import VectorBytes, record
from embed_star.values import Table as SurrealTable

_COMMAND = (sys.executable, "-m", "embed_star.cli.main")
_INSERT_ROWS = 500


def main(arguments: list[str]) -> None:
    """Fill a server, back it up, empty it, restore it; print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench backup", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="vectors of 768 (100,000)")
    rows = parser.parse_args(arguments).rows
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServers(
            Path(folder) / "data", ServerOptions(engine="server", redis=False, memory=True)
        ) as servers,
    ):
        env = {
            **os.environ,
            **servers.environment,
            **servers.root_environment,
            "EMBEDDING_MODEL": "bench-model",
            "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        }
        _run("migrate", "--bootstrap", env=env)
        with Services(load_settings(_env_file=None, **_lower(env))) as services:
            _fill(services, rows)
            target = str(Path(folder) / "backup")
            saved, saving_kb = _run("backup", target, "--json", env=env)
            services.store.database.query("DELETE $vectors", vectors=_vectors(services))
            restored, restoring_kb = _run("restore", target, "--json", env=env)
            if services.store.vectors.count() != rows:
                raise AssertionError("the restore is not whole")
    table = Table("what", "rows", "seconds", "rows/s", "MB", "peak RSS, MB", box=None)
    size = f"{saved['bytes'] / 1e6:,.0f}"
    for name, report, kb in (("backup", saved, saving_kb), ("restore", restored, restoring_kb)):
        taken_s = report["seconds"]
        row = (f"{rows:,}", f"{taken_s:,.1f}", f"{rows / taken_s:,.0f}", size, f"{kb / 1024:,.0f}")
        table.add_row(name, *row)
    Console().print(table)


def _fill(services: Services, rows: int) -> None:
    random = np.random.default_rng(7)
    table = services.space.table
    for start in range(0, rows, _INSERT_ROWS):
        vectors = random.standard_normal((_INSERT_ROWS, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        records = [
            {
                "id": record(table, f"owner{key % 997}/project{key}"),
                "repo": record("repo", f"owner{key % 997}/project{key}"),
                "vector": VectorBytes(vectors[key - start]),
                "text_hash": f"{key:032x}",
                "run": f"{key // 1000:032x}",
            }
            for key in range(start, min(rows, start + _INSERT_ROWS))
        ]
        services.store.database.query(
            "INSERT INTO $table $rows RETURN NONE", table=_vectors(services), rows=records
        )


def _vectors(services: Services) -> SurrealTable:
    return SurrealTable(services.space.table)


def _run(*arguments: str, env: Mapping[str, str]) -> tuple[Any, int]:
    """Run a command to its end; its JSON, if it printed any, and its peak RSS in KiB."""
    process = subprocess.Popen((*_COMMAND, *arguments), env=env, stdout=subprocess.PIPE)
    printed = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"embed-star {arguments[0]} failed")
    return json.loads(printed) if printed.startswith(b"{") else None, usage.ru_maxrss


def _lower(env: Mapping[str, str]) -> dict[str, str]:
    return {k.lower(): v for k, v in env.items() if k.lower() in Settings.model_fields}
