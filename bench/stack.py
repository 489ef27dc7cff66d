"""A stack to be measured: memory servers, a scripted provider, workers, producer."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embed_star.devstack.programs import Program, standard_programs
from embed_star.devstack.servers import ServerOptions
from embed_star.devstack.stack import LocalStack
from embed_star.models import Lane, Status
from embed_star.produce.leadership import LEASE_KEY
from embed_star.services import Services
from embed_star.store.client.codec import VectorBytes, record
from tests.support.scripted_provider import ScriptedProvider

DIMENSIONS = 768
GIVE_UP_S = 180.0
_LEASE_S = 1.0
_INSERT_ROWS = 100

AUTO = {"BATCH_SIZE": "auto", "PARALLEL_WORKERS": "auto"}
"""As these settings come: a shape names numbers, for those that are to be the same each time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the stack is run."""

    batch_rows: int
    chord_batches: int
    workers: int
    threads: int
    """Provider calls in flight in each worker."""
    latency_ms: float = 0
    latency_sigma: float = 0
    """Spread of the provider's latency: log-normal, with `latency_ms` as its median."""
    monitored: bool = True
    true_vectors: bool = False
    """Each text has its own vector, and the provider keeps a ledger: for the checker."""
    beat: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """Others than the usual ones."""


class Bench:
    """Handles on a running stack."""

    def __init__(self, services: Services, stack: LocalStack, provider: ScriptedProvider) -> None:
        self.services = services
        self.stack = stack
        self.provider = provider
        self._hold = f"bench:{secrets.token_hex(4)}"
        self._next_key = 0

    def insert_repos(self, rows: int) -> list[int]:
        """Write new repos, as a user's bulk load would; their keys."""
        keys = list(range(self._next_key, self._next_key + rows))
        self._next_key += rows
        for start in range(0, rows, 500):
            records = [_repo(key) for key in keys[start : start + 500]]
            self.services.store.database.query("INSERT INTO repo $rows RETURN NONE", rows=records)
        return keys

    @contextmanager
    def producer_held(self) -> Iterator[None]:
        """Keep the producer from claiming, by leading in its place."""
        locks = self.services.leases
        deadline = time.monotonic() + GIVE_UP_S
        while not locks.acquire([LEASE_KEY], self._hold, GIVE_UP_S)[0]:
            # The lease is the producer's: wait for the moment between two extensions.
            self.services.redis.delete(f'{self.services.redis_prefix}lease:"{LEASE_KEY}"')
            if time.monotonic() > deadline:
                raise TimeoutError("the producer keeps its lease")
        time.sleep(_LEASE_S)  # it notices at its next extension, a third of the lease away
        try:
            yield
        finally:
            locks.release([LEASE_KEY], self._hold)

    def await_claiming(self) -> float:
        """Wait for the first claim; when it was seen."""
        wait(lambda: self.services.ledger.counts().in_flight > 0)
        return time.perf_counter()

    def await_written(self, rows: int) -> float:
        """Wait until all `rows` vectors are written; when that was seen."""
        finished = self.services.ledger
        wait(lambda: finished.counts().finished_total >= rows, poll_s=0.02)
        seen = time.perf_counter()
        written = self.services.store.vectors.count()
        if written != rows:
            raise AssertionError(f"{written} vectors of {rows}")
        return seen

    def calls_paid(self) -> int:
        """Rows embedded by calls to the provider."""
        return self.services.ledger.totals().get(Status.EMBEDDED.value, 0)

    def rebuild_rate(self, keys: Sequence[int]) -> float:
        """Rows/s from the first claim until the vectors of `keys`, all removed, are back."""
        store = self.services.store
        before = store.vectors.count()
        with self.producer_held():
            for start in range(0, len(keys), 500):
                page = keys[start : start + 500]
                ids = [record(self.services.space.table, key) for key in page]
                store.database.query("DELETE $ids RETURN NONE", ids=ids)
                store.outbox.announce([(key, 100) for key in page], Lane.FRESH)
        started = self.await_claiming()
        wait(lambda: store.vectors.count() == before, poll_s=0.02)
        return len(keys) / (time.perf_counter() - started)

    def edit_back_ms(self, key: int) -> float:
        """Edit a row, then edit it back: from the second edit to the old vector readable."""
        query = self.services.store.database.query
        repo, vector = record("repo", key), record(self.services.space.table, key)
        ((old,),) = query("SELECT VALUE text_hash FROM $id", id=vector)
        ((was,),) = query("SELECT VALUE description FROM $id", id=repo)
        edit = "UPDATE $id SET description = $text RETURN NONE"
        look = "SELECT VALUE text_hash FROM $id"
        query(edit, id=repo, text=f"another text of {key}")
        wait(lambda: query(look, id=vector)[0] not in ([], [old]))
        time.sleep(0.02)  # let the run's last messages pass: the stack is to be idle
        started = time.perf_counter()
        query(edit, id=repo, text=was)
        wait(lambda: query(look, id=vector)[0] == [old], poll_s=0.0005)
        return (time.perf_counter() - started) * 1000

    def bare_insert_rate(self, rows: int) -> float:
        """Rows/s of plain bulk INSERTs of vectors, one connection, nothing else running."""
        table = f"bare_{secrets.token_hex(4)}"
        database = self.services.store.database
        database.query(f"DEFINE TABLE {table} SCHEMALESS")
        vectors = np.random.default_rng(7).standard_normal((rows, DIMENSIONS)).astype(np.float32)
        started = time.perf_counter()
        for start in range(0, rows, _INSERT_ROWS):
            records = [
                {
                    "id": record(table, key),
                    "repo": record("repo", key),
                    "vector": VectorBytes(vectors[key]),
                    "text_hash": "0" * 32,
                }
                for key in range(start, min(rows, start + _INSERT_ROWS))
            ]
            database.query(f"INSERT INTO {table} $rows RETURN NONE", rows=records)
        rate = rows / (time.perf_counter() - started)
        database.query(f"REMOVE TABLE {table}")
        return rate


@contextmanager
def running(shape: Shape) -> Iterator[Bench]:
    """Everything started, and stopped at the end."""
    flags = ["--dimensions", str(DIMENSIONS), "--latency-ms", str(shape.latency_ms)]
    flags += ["--latency-sigma", str(shape.latency_sigma)]
    flags += [] if shape.true_vectors else ["--instant"]
    with tempfile.TemporaryDirectory() as folder, ScriptedProvider(*flags) as provider:
        env = {
            "EMBEDDING_PROVIDER": "openai",
            "OPENAI_BASE_URL": provider.openai_url,
            "EMBEDDING_MODEL": "bench-model",
            "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
            "BATCH_SIZE": str(shape.batch_rows),
            "CHORD_BATCHES": str(shape.chord_batches),
            "PARALLEL_WORKERS": str(shape.threads),
            "LEADER_LEASE_S": str(_LEASE_S),
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "json",
            **({} if shape.monitored else {"MONITORING_PORT": "0"}),
            **shape.settings,
        }
        stack = LocalStack(
            Path(folder) / "data",
            engine="server",
            env=env,
            servers=ServerOptions(memory=True),
            programs=_programs(shape),
        )
        with stack:
            stack.wait_ready()
            with Services(stack.settings()) as services:
                bench = Bench(services, stack, provider)
                _warm_up(bench)
                yield bench


def _programs(shape: Shape) -> dict[str, Program]:
    programs = standard_programs(workers=shape.workers)
    if not shape.beat:
        programs.pop("beat")  # its sweeps are not what is measured
    return programs


def _warm_up(bench: Bench) -> None:
    """Connections, imports and the first calls are not what is measured."""
    rows = len(bench.insert_repos(200))
    bench.await_written(rows)


def _repo(key: int) -> dict[str, Any]:
    return {
        "id": record("repo", key),
        "full_name": f"owner{key % 997}/project{key}",
        "description": f"A project about subject {key}, for people who need number {key * 7919}",
        "language": ("Python", "Go", "Rust", "C++")[key % 4],
        "topics": ["topic-a", f"topic-{key % 50}"],
        "stargazers_count": key,
        "owner": {"login": f"owner{key % 997}"},
    }


def wait(condition: Callable[[], object], poll_s: float = 0.002) -> None:
    """Return once the condition holds. Raises TimeoutError after GIVE_UP_S."""
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the stack did not get there")
        time.sleep(poll_s)


def quantile(values: Sequence[float], q: float) -> float:
    """The `q`-quantile of `values`, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
