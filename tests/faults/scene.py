"""The stage of one case: a database, a user, processes, and a link from each to each server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from embed_star.devstack.processes import Child, stop_together
from embed_star.devstack.redis_server import find_redis_server
from tests.faults.fault import BATCH_ROWS, PASSAGES, WORKER_CALLS, Fault
from tests.faults.user import User
from tests.support.command_line import CELERY, EMBED_STAR, run
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually, find_surreal
from tests.support.toxiproxy import Link, Toxiproxy

KEY = "sk-canary-f3a9c1"
"""The provider's key in every case: it must be in no log."""

LATENCY_MS = 150
"""Of a provider call, so that there is always something under way."""

PROMPT = {
    "BATCH_SIZE": str(BATCH_ROWS),
    "CHORD_BATCHES": "3",
    "PARALLEL_WORKERS": str(WORKER_CALLS),
    "OPENAI_API_KEY": KEY,
    "BREAKER_OPEN_S": "1",
    "SWEEP_INTERVAL_S": "2",
    # As people have it, an outage of the database is noticed within half a minute.
    "DB_TIMEOUT_S": "3",
}


@dataclass(frozen=True, slots=True)
class Links:
    """What one process reaches its servers over. That to the provider is the whole fleet's: by
    its address it is known which server a vector came from, and whose limit and breaker it is."""

    redis: Link
    surrealdb: Link
    provider: Link

    def all(self) -> tuple[Link, ...]:
        return self.redis, self.surrealdb, self.provider


@dataclass(eq=False, slots=True)
class Process:
    """One of ours, and its links. `doomed` once the case itself has ended it."""

    child: Child
    links: Links
    doomed: bool = False


class Arena:
    """Servers that the cases of a session share, one after the other."""

    def __init__(self, folder: Path) -> None:
        # On our own PATH for as long as the arena's servers are looked up.
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in _hardened(folder).items():
                patch.setenv(variable, value)
            self._make(folder)

    def _make(self, folder: Path) -> None:
        self.fleet = Fleet(folder, memory=False, cold=True)
        self.toxiproxy = Toxiproxy()

    def __enter__(self) -> Self:
        self.toxiproxy.__enter__()
        try:
            self.fleet.__enter__()
        except BaseException:
            self.toxiproxy.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.fleet.__exit__(kind, error, trace)
        finally:
            self.toxiproxy.__exit__(kind, error, trace)


def _hardened(folder: Path) -> dict[str, str]:
    """The environment in which Redis and SurrealDB are found as programs that ignore SIGXFSZ.

    A file that may not grow is then an error to them, as a full disk is (`cases/disk.py`).
    """
    programs = {
        "redis-server": find_redis_server(os.environ),
        "surreal": find_surreal(),
    }
    for name, program in programs.items():
        script = folder / name
        script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{program}' \"$@\"\n")
        script.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    return {"PATH": path, "SURREAL_BIN": str(folder / "surreal")}


class Scene:
    """For a `with` block. Everything in it is gone afterwards, and the servers are as before."""

    def __init__(
        self,
        arena: Arena,
        fault: Fault,
        seed: int = 0,
        *,
        celery: tuple[str, ...] = CELERY,
        embed_star: tuple[str, ...] = EMBED_STAR,
    ) -> None:
        self.arena = arena
        self.fault = fault
        self.random = random.Random(seed)  # noqa: S311 - to be repeated
        self.processes: list[Process] = []
        self.again, self.hits = fault.again, fault.hits
        """As `Fault.again` and `Fault.hits`; a case that cannot know them before adds to them."""
        self.servers = arena.fleet.servers
        self.provider: ScriptedProvider = arena.fleet.provider
        self.provider.reset()
        self.provider.script(latency_ms=LATENCY_MS)
        self.tenant: Tenant = arena.fleet.tenant(**{**PROMPT, **fault.env})
        self.lab: Lab = self.tenant.lab
        self._retired: list[Tenant] = []
        passages = PASSAGES if fault.readmes else 0
        self.user = User(self.lab, seed, edits=fault.edits, passages=passages)
        self._celery, self._embed_star = celery, embed_star
        self._to_provider = arena.toxiproxy.link("provider", self.ports()["provider"])

    def __enter__(self) -> Self:
        fault = self.fault
        starts: list[Callable[[], Process]] = [self.worker] * fault.workers
        starts += [self.producer] * fault.producers + [self.beat] * fault.beats
        with ThreadPoolExecutor(len(starts) or 1) as pool:
            for started in [pool.submit(start) for start in starts]:
                started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self.user.abandon()
        for process in self.processes:
            self.resume(process)
        stop_together([one.child for one in self.processes if not one.child.ended.is_set()], 0)
        for link in {link for one in self.processes for link in one.links.all()}:
            link.remove()
        for tenant in (self.tenant, *self._retired):
            tenant.close()
        self.provider.reset()
        self.redis(lambda client: client.flushall())

    # Processes

    def worker(self, *options: str, **env: str) -> Process:
        """A `celery worker` that takes tasks."""
        return self._started("worker", options or self.fault.options, env)

    def producer(self, **env: str) -> Process:
        return self._started("producer", (), env)

    def beat(self, **env: str) -> Process:
        return self._started("beat", (), env)

    def start_unconnected(self, *kinds: str) -> list[Process]:
        """Start processes that reach nothing yet, without waiting for them."""
        started = []
        for kind in kinds:
            links = self._new_links(kind)
            for link in links.all():
                link.cut()
            argv = {
                "worker": (*self._celery, "worker", "-n", f"late-{kind}@%h"),
                "producer": (*self._embed_star, "watch"),
                "beat": (*self._celery, "beat", "--pidfile="),
            }[kind]
            number = len(self.processes)
            name = f"{kind}-late-{self.tenant.settings.db_database}-{number}"
            child = self.tenant.start(name, *argv, **self._addresses(links))
            started.append(Process(child, links))
            self.processes.append(started[-1])
        return started

    @property
    def workers(self) -> list[Process]:
        """Those that live, in the order of their start."""
        return self._alive("worker")

    @property
    def producers(self) -> list[Process]:
        return self._alive("producer")

    def migrate(self, **env: str) -> None:
        """`embed-star migrate` with other settings: what starts from here on has them, and all is
        judged by them. What runs goes on with its own."""
        own = {**self.tenant.env, **env}
        run(*EMBED_STAR, "migrate", env=own).assert_worked()
        self._retired.append(self.tenant)
        self.tenant = self.arena.fleet.tenant(**own)
        self.lab = self.tenant.lab

    def kill(self, *processes: Process) -> None:
        """SIGKILL for each and all of its children."""
        for process in processes:
            process.doomed = True
            process.child.kill()
            process.child.ended.wait()

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        _signal(process, signal.SIGSTOP)

    def resume(self, process: Process) -> None:
        _signal(process, signal.SIGCONT)

    def links(self, server: str, processes: Iterable[Process] | None = None) -> list[Link]:
        """The links to "redis", "surrealdb" or "provider", of all processes or of these."""
        chosen = self.processes if processes is None else processes
        return [getattr(one.links, server) for one in chosen if not one.child.ended.is_set()]

    def struck(self, hits: int = 1) -> None:
        """P: whatever is claimed now may have to be paid for again."""
        self.again += self.lab.locks()
        self.hits += hits

    # What is so

    def logged(self, event: str, processes: Iterable[Process] | None = None) -> int:
        """How often this event is in the logs."""
        chosen = self.processes if processes is None else processes
        lines = [line for one in chosen for line in log_lines(one.child)]
        return sum(str(line.get("event", "")).startswith(event) for line in lines)

    def under_way(self, calls: int = 2) -> None:
        """Have so many provider calls in flight: with fresh rows, and a slow provider."""
        self.provider.script(latency_ms=1200)
        self.user.insert(2 * calls * BATCH_ROWS)
        self.lab.await_asked(calls)

    def usual(self) -> None:
        """The provider is as fast as usual again."""
        self.provider.script(latency_ms=LATENCY_MS)

    def await_logged(self, event: str, processes: Iterable[Process] | None = None) -> None:
        eventually(lambda: self.logged(event, processes) > 0, f"{event} is logged", 40.0)

    def paid(self) -> int:
        """Inputs that the provider was paid for."""
        return sum(self.lab.report().paid.values())

    def cached_names(self) -> list[bytes]:
        """The keys, in Redis, of the vectors of this case's model."""
        pattern = f"embed_star:vector:*:{self.lab.services.space.name}:*"
        return list(self.redis(lambda client: sorted(client.scan_iter(pattern, count=1000))))

    def cached(self) -> int:
        """Vectors of this case's model in the shared cache."""
        return len(self.cached_names())

    @property
    def queue(self) -> str:
        """The list, in Redis, of the messages of fresh batches."""
        return f"{self.lab.services.redis_prefix}celery:embed"

    def queued(self) -> list[bytes]:
        """The messages in it."""
        return list(self.redis(lambda client: client.lrange(self.queue, 0, -1)))

    def await_enqueued(self, batches: int) -> None:
        """Until so many batches wait for a worker."""
        eventually(lambda: len(self.queued()) >= batches, "batches are enqueued")

    def children(self, process: Process) -> list[int]:
        """The ids of a process's children."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.child.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(one) for one in listed.stdout.split()]

    def answering_workers(self) -> int:
        """How many workers answer a ping."""
        with self.tenant.app() as app:
            return len(app.control.ping(timeout=2.0))

    def redis(self, act: Callable[[redis.Redis], Any], url: str = "") -> Any:
        """Do something to the Redis server itself."""
        with redis.Redis.from_url(url or self.servers.redis_url) as client:
            return act(client)

    def secrets(self) -> list[str]:
        """What must be in no log."""
        root_password = self.servers.root_environment["ROOT_DB_PASS"]
        return [KEY, self.tenant.env["DB_PASS"], self.redis_password, root_password]

    @property
    def redis_password(self) -> str:
        return urlsplit(self.servers.redis_url).password or ""

    def _alive(self, kind: str) -> list[Process]:
        return [
            one
            for one in self.processes
            if one.child.name.startswith(kind) and not one.child.ended.is_set()
        ]

    def _started(self, kind: str, options: tuple[str, ...], env: Mapping[str, str]) -> Process:
        links = self._new_links(kind)
        given = {**self._addresses(links), **env}
        child = {
            "worker": lambda: self.tenant.worker(*options, celery=self._celery, **given),
            "producer": lambda: self.tenant.producer(embed_star=self._embed_star, **given),
            "beat": lambda: self.tenant.beat(celery=self._celery, **given),
        }[kind]()
        process = Process(child, links)
        self.processes.append(process)
        return process

    def _new_links(self, kind: str) -> Links:
        made = {
            name: self.arena.toxiproxy.link(f"{kind}-{name}", port)
            for name, port in self.ports().items()
            if name != "provider"
        }
        return Links(**made, provider=self._to_provider)

    def ports(self) -> dict[str, int]:
        """Where the servers themselves listen."""
        provider = urlsplit(self.provider.url).port or 0
        return {**self.servers.ports, "provider": provider}

    def _addresses(self, links: Links) -> dict[str, str]:
        env = self.tenant.env
        redis_url = _with_port(env["REDIS_URL"], links.redis.port)
        return {
            "REDIS_URL": redis_url,
            "CACHE_URL": redis_url,
            "DB_URL": _with_port(env["DB_URL"], links.surrealdb.port),
            "OPENAI_BASE_URL": _with_port(env["OPENAI_BASE_URL"], links.provider.port),
        }


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    before = parts.netloc.rpartition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{before}:{port}"))


def _signal(process: Process, number: signal.Signals) -> None:
    if not process.child.ended.is_set():
        with suppress(ProcessLookupError):
            os.killpg(process.child.pid, number)
