"""Finds, starts and stops Redis and SurrealDB of a local stack."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from embed_star.devstack.database import (
    ROOT_USER,
    EmbeddedEngine,
    Engine,
    SurrealServer,
    choose_server,
)
from embed_star.devstack.datadir import Credentials, DataDir
from embed_star.devstack.environment import inherited
from embed_star.devstack.processes import Child, Command, await_ready
from embed_star.devstack.reaper import Reaper
from embed_star.devstack.redis_server import RedisServer, find_redis_server
from embed_star.errors import EmbedStarError

BIND_TRIES = 5
READY_S = 60.0
"""The first start may unpack a program, or replay a long log."""
GRACE_S = 15.0
"""From SIGTERM to SIGKILL: the gateway lets requests finish for 10 s."""


class Server(Protocol):
    """A program that serves a port: Redis, SurrealDB, or the embedded engine's gateway."""

    @property
    def name(self) -> str: ...

    def command(self, port: int) -> Command: ...

    def serving_port(self, child: Child, port: int) -> int | None:
        """The port once it serves; None until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Which servers to run, and how. With port 0, a free one is chosen."""

    engine: Engine = "auto"
    redis: bool = True
    surrealdb: bool = True
    memory: bool = False
    """Whether rows and queues stay in memory only."""
    user: str = "embed_star"
    namespace: str = "gitstars"
    database: str = "stars"
    redis_port: int = 0
    surrealdb_port: int = 0


class LocalServers:
    """Redis and SurrealDB on this machine, as a context manager or with `start` and `stop`.

    `env` overrides this process's environment. No server outlives this process, even when it
    is killed. `on_end` is called from another thread for every server that ends.
    """

    def __init__(
        self,
        data_dir: Path | str,
        options: ServerOptions | None = None,
        *,
        env: Mapping[str, str] | None = None,
        on_end: Callable[[Child], None] | None = None,
        aborted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.data = DataDir(Path(data_dir))
        self.options = options or ServerOptions()
        self.processes: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.reaper = Reaper(-1)
        self._inherited = inherited(env)
        self._on_end = on_end
        self._aborted = aborted
        self._servers: dict[str, Server] = {}
        self._credentials = Credentials("", "", "")

    def start(self) -> None:
        """Start all servers and wait until they serve. If one fails, all are stopped.

        Raises ConfigError for a missing program, EmbedStarError for a server that does
        not start or a data directory in use, StopRequested when aborted.
        """
        redis_server = find_redis_server(self._inherited) if self.options.redis else None
        surreal = self._find_surreal()
        self.data.acquire()
        self.reaper = Reaper(self.data.lock)
        try:
            self._credentials = self.data.credentials()
            servers = [self._redis(redis_server)] if redis_server else []
            if self.options.surrealdb:
                servers.append(self._surrealdb(surreal))
            self._servers = {server.name: server for server in servers}
            self.ports = {
                "redis": self.options.redis_port,
                "surrealdb": self.options.surrealdb_port,
            }
            for name in self._servers:
                self.start_server(name)
        except BaseException:
            self.stop()
            raise

    def start_server(self, name: str) -> None:
        """Start one server that is not running, on its last port."""
        server, given = self._servers[name], self.ports[name]
        for _ in range(BIND_TRIES):
            child, port = self._try_start(server, given)
            if port is not None:
                self.ports[name], self.processes[name] = port, child
                return
            if "in use" not in child.output():
                raise EmbedStarError(
                    f"{name} did not start ({child.describe_end()}); its log is {child.log}"
                )
            if given:
                raise EmbedStarError(f"{name} did not start: port {given} is in use")
        raise EmbedStarError(f"{name} found no free port in {BIND_TRIES} tries")

    def stop_server(self, name: str, *, grace_s: float = GRACE_S) -> None:
        """Stop one server; with `grace_s=0` by SIGKILL. `start_server` starts it again."""
        self.processes[name].stop(grace_s)

    def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Stop SurrealDB, then Redis, and unlock the directory. A second call changes nothing."""
        for child in reversed(list(self.processes.values())):
            child.stop(grace_s)
        self.reaper.close()
        self.data.release()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell a client process where the servers are."""
        found: dict[str, str] = {}
        if "surrealdb" in self.processes:
            found["DB_URL"] = f"ws://127.0.0.1:{self.ports['surrealdb']}"
            found["DB_USER"] = self.options.user
            found["DB_PASS"] = self._credentials.db_pass
            found["DB_NAMESPACE"] = self.options.namespace
            found["DB_DATABASE"] = self.options.database
        if "redis" in self.processes:
            found["REDIS_URL"] = found["CACHE_URL"] = self.redis_url
        return found

    @property
    def root_environment(self) -> dict[str, str]:
        """The root user, for `migrate --bootstrap`; empty for the gateway, which has none."""
        if not isinstance(self._servers.get("surrealdb"), SurrealServer):
            return {}
        return {"ROOT_DB_USER": ROOT_USER, "ROOT_DB_PASS": self._credentials.root_pass}

    @property
    def engine(self) -> Engine:
        """Which SurrealDB runs: `server` or `embedded`."""
        embedded = isinstance(self._servers.get("surrealdb"), EmbeddedEngine)
        return "embedded" if embedded else "server"

    @property
    def redis_url(self) -> str:
        """The URL of Redis, with its password."""
        return f"redis://:{self._credentials.redis_pass}@127.0.0.1:{self.ports['redis']}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _try_start(self, server: Server, given: int) -> tuple[Child, int | None]:
        # The gateway prints its port, so the system may choose it; others must be told one.
        port = given or (0 if isinstance(server, EmbeddedEngine) else free_port())
        log = self.data.log(server.name)
        child = Child(server.name, server.command(port), log, self.reaper, self._on_end)
        try:
            return child, await_ready(
                child, lambda: server.serving_port(child, port), READY_S, self._aborted
            )
        except BaseException:
            child.stop(GRACE_S)
            raise

    def _redis(self, program: Path) -> Server:
        return RedisServer(
            program,
            self.data.folder("redis"),
            self._credentials.redis_pass,
            self._inherited,
            memory=self.options.memory,
        )

    def _find_surreal(self) -> Path | None:
        options = self.options
        if not options.surrealdb:
            return None
        return choose_server(options.engine, self.data, self._inherited, memory=options.memory)

    def _surrealdb(self, program: Path | None) -> Server:
        options, memory = self.options, self.options.memory
        if program is not None:
            directory = None if memory else self.data.folder("surreal")
            return SurrealServer(program, directory, self._credentials.root_pass, self._inherited)
        return EmbeddedEngine(
            directory=None if memory else self.data.folder("engine"),
            user=options.user,
            password=self._credentials.db_pass,
            namespace=options.namespace,
            database=options.database,
            environment=self._inherited,
        )


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
