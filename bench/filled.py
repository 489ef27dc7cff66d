"""`python -m bench filled`: a start, and `status`, with a table that was full before embed_star."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.rows import RowMaker
from bench.stack import wait
from bench.starting import CELERY, EMBED_STAR, HOSTED
from bench.usage import cpu_s
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.models import Lane
from embed_star.services import Services
from embed_star.services.store import target_of
from embed_star.settings import Settings, load_settings
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client.codec import VectorBytes, record
from embed_star.store.tables.event import EVENT
from tests.support.scripted_provider import ScriptedProvider

ROWS = 100_000
STARTS = 3
LOOKS = 5
_PAGE = 500
_POLL_S = 0.01


def filled(figures: dict[str, float], rows: int = ROWS) -> list[tuple[str, ...]]:
    """Seconds to the first vector of rows that no event announced, and then those of `status`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedProvider("--dimensions", HOSTED["EMBEDDING_DIMENSIONS"], "--instant") as provider,
        LocalServers(Path(folder) / "data", ServerOptions(memory=True, engine="server")) as servers,
    ):
        own = {
            **HOSTED,
            **servers.environment,
            "OPENAI_BASE_URL": provider.openai_url,
            "MONITORING_PORT": "0",
        }
        settings = load_settings(**{name.lower(): value for name, value in own.items()})
        with Services(settings) as services:
            fleet = _Fleet({**os.environ, **own}, Path(folder))
            _make_user(settings, servers.root_environment)
            _write_rows(services, rows)
            starts = [_start(services, fleet) for _ in range(STARTS)]
            _half_pending(services, rows)
            alone = fleet.status()
            with fleet.running("worker", *CELERY, "worker"):
                wait(lambda: services.workers.count() > 0, _POLL_S)
                beside = fleet.status()
    migrated, started, used = (statistics.median(one) for one in zip(*starts, strict=True))
    figures |= {"first_vector_s": started, "first_vector_with_migrate_s": migrated}
    figures |= {"first_vector_cpu_s": used}
    figures |= {"status_s": beside, "status_no_worker_s": alone}
    waiting, half = f"{rows:,} rows before", f"{rows:,} rows, half pending"
    return [
        ("first vector after the start", f"{started:.2f} s", waiting, "", "≤ 3 s"),
        ("the same, with migrate", f"{migrated:.2f} s", waiting, "", ""),
        ("worker and producer until then", f"{used:.2f} s of CPU", "", "", ""),
        ("status --json, no worker", f"{alone:.2f} s", half, "", "≤ 0.3 s"),
        ("status --json, one worker", f"{beside:.2f} s", half, "", "≤ 0.3 s"),
    ]


class _Fleet:
    """Starts our processes, each with this environment and its log in this folder."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._env = {**env, "PYTHONPATH": str(Path.cwd())}
        self._folder = folder

    @contextmanager
    def running(self, name: str, *command: str) -> Iterator[int]:
        """Run a process while the block does; its id."""
        with (
            (self._folder / f"{name}.log").open("wb") as log,
            subprocess.Popen(
                command, env=self._env, cwd=self._folder, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield process.pid
            finally:
                process.send_signal(signal.SIGTERM)

    def run(self, *command: str) -> None:
        """Run a command to its end. Raises CalledProcessError."""
        subprocess.run(command, env=self._env, cwd=self._folder, check=True, capture_output=True)

    def status(self) -> float:
        """The median of the seconds that the command takes."""
        taken = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            self.run(*EMBED_STAR, "status", "--json")
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)


def _make_user(settings: Settings, root: Mapping[str, str]) -> None:
    target = target_of(settings)
    made = replace(target, user=root["ROOT_DB_USER"], password=root["ROOT_DB_PASS"], root=True)
    bootstrap(made, target.user, target.password)


def _write_rows(services: Services, rows: int) -> None:
    maker = RowMaker(seed=1)
    for start in range(0, rows, _PAGE):
        page = [
            {"id": record("repo", number), **maker.new(number)}
            for number in range(start, min(rows, start + _PAGE))
        ]
        services.store.database.query("INSERT INTO repo $rows RETURN NONE", rows=page)


def _start(services: Services, fleet: _Fleet) -> tuple[float, float, float]:
    """Seconds to the first vector, from before `migrate` and from after it, and of processors."""
    query = services.store.database.query
    (info,) = query("INFO FOR DB")
    for table in info["tables"].keys() - {"repo"}:
        query(f"REMOVE TABLE {table}")
    query(f"REMOVE EVENT IF EXISTS {EVENT} ON repo")
    services.redis.flushall()
    began = time.perf_counter()
    fleet.run(*EMBED_STAR, "migrate")
    started = time.perf_counter()
    with (
        fleet.running("worker", *CELERY, "worker") as worker,
        fleet.running("producer", *EMBED_STAR, "watch") as producer,
    ):
        wait(lambda: services.store.vectors.keys_page(None, 1), _POLL_S)
        now, used_s = time.perf_counter(), cpu_s(worker) + cpu_s(producer)
    return now - began, now - started, used_s


def _half_pending(services: Services, rows: int) -> None:
    """Half of the rows have vectors, and the others records in the outbox, and nothing else has."""
    store, table = services.store, services.space.table
    store.database.query(f"DELETE {table} RETURN NONE; DELETE embedding_outbox RETURN NONE")
    vectors = np.random.default_rng(1).standard_normal((_PAGE, services.space.dimensions))
    for start in range(0, rows // 2, _PAGE):
        page = [
            {
                "id": record(table, start + number),
                "repo": record("repo", start + number),
                "vector": VectorBytes(vector),
                "text_hash": "0" * 32,
            }
            for number, vector in enumerate(vectors.astype(np.float32))
        ]
        store.database.query(f"INSERT INTO {table} $rows RETURN NONE", rows=page)
    for start in range(rows // 2, rows, _PAGE):
        store.outbox.announce([(key, 100) for key in range(start, start + _PAGE)], Lane.BACKFILL)
