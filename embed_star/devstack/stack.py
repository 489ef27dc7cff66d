"""The whole of embed_star on one machine: servers, schema, workers, beat and producer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from embed_star.devstack import DATA_DIR
from embed_star.devstack.database import Engine
from embed_star.devstack.environment import inherited
from embed_star.devstack.processes import Child, Command, StopRequested, await_ready, stop_together
from embed_star.devstack.programs import (
    BEAT,
    MIGRATE,
    Program,
    forget_workers,
    listening_workers,
    standard_programs,
    stop_order,
)
from embed_star.devstack.servers import GRACE_S, LocalServers, ServerOptions, free_port
from embed_star.devstack.supervisor import RestartPolicy, Supervisor
from embed_star.errors import EmbedStarError
from embed_star.settings import Settings, load_settings
from embed_star.timings import SHUTDOWN_MARGIN_S

MIGRATE_S = 120.0
MIGRATE_STOP_S = 10.0
READY_S = 60.0
_POLL_S = 0.05


class LocalStack:
    """Runs everything from `start` to `stop`, or as a context manager.

    `env` overrides this process's environment, for the settings and for every child.
    `servers` has more options of the servers, such as their ports.
    `programs` replaces the standard programs, for tests. `report` gets a line for each step.
    A program that ends by itself is restarted, up to three times a minute. After that, or
    when a server ends, everything is stopped and `wait` raises. Start a stack only once.
    """

    def __init__(
        self,
        data_dir: Path | str = DATA_DIR,
        *,
        workers: int = 1,
        engine: Engine = "auto",
        env: Mapping[str, str] | None = None,
        servers: ServerOptions | None = None,
        programs: Mapping[str, Program] | None = None,
        policy: RestartPolicy | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._env = dict(env or {})
        self._settings = own = _own_settings(self._env)
        self.overridden = sorted(own.model_fields_set & {"db_url", "redis_url"})
        """The user's settings that this stack replaces by the addresses of its own servers."""
        self._report = report
        self.stop_requested = False
        self._killed = False
        self._running: dict[str, Child] = {}
        self.monitoring_ports: dict[str, int] = {}
        """The port of each program, on 127.0.0.1; empty with MONITORING_PORT=0."""
        options = replace(
            servers or ServerOptions(),
            engine=engine,
            user=own.db_user,
            namespace=own.db_namespace,
            database=own.db_database,
        )
        self.servers = self._make_servers(data_dir, options)
        self._programs = dict(standard_programs(workers=workers) if programs is None else programs)
        self._migrate = self._programs.pop(MIGRATE, None)
        if own.monitoring_port:
            self.monitoring_ports = {name: free_port() for name in self._programs}
        self._supervisor = self._make_supervisor(policy or RestartPolicy())
        self._supervised = self._published = self._stopped = False

    def _make_servers(self, data_dir: Path | str, options: ServerOptions) -> LocalServers:
        return LocalServers(
            data_dir,
            options,
            env=self._env,
            on_end=self._child_ended,
            aborted=lambda: self.stop_requested,
        )

    def _make_supervisor(self, policy: RestartPolicy) -> Supervisor:
        return Supervisor(
            is_current=lambda child: self.processes.get(child.name) is child,
            restartable=self._programs,
            restart=self._launch,
            shut_down=self._shut_down,
            policy=policy,
        )

    @property
    def processes(self) -> dict[str, Child]:
        """The running processes by name: redis, surrealdb, worker1, …, beat, producer."""
        return {**self.servers.processes, **self._running}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client process needs to use this stack and its vectors."""
        own = self._settings
        return {
            **self.servers.environment,
            # A search with another model than the workers' would find nothing.
            "EMBEDDING_PROVIDER": own.embedding_provider,
            "EMBEDDING_MODEL": own.model,
            "EMBEDDING_DIMENSIONS": str(own.dimensions),
            "OLLAMA_URL": own.ollama_url,
            "OPENAI_BASE_URL": own.openai_base_url,
            "TEXT_FIELDS": ",".join(own.text_fields),
            "TEXT_MAX_TOKENS": str(own.text_max_tokens),
        }

    def settings(self) -> Settings:
        """The settings of a client of this stack. Call it after `start`."""
        return _own_settings({**self._env, **self.environment})

    def start(self) -> None:
        """Start everything; `wait_ready` waits until it works. If a step fails, all is stopped.

        Raises the errors of `LocalServers.start`, and EmbedStarError when the migrations fail.
        """
        try:
            self.servers.start()
            self._tell_servers()
            self._run_migrations()
            self._publish()
            forget_workers(self.servers.redis_url)
            self.servers.data.folder(BEAT)
            for name in self._programs:
                self._launch(name)
            self._report(f"started {', '.join(self._programs)}")
        except BaseException:
            self._shut_down()
            raise
        self._supervised = True
        self._supervisor.start()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every program runs and every worker takes tasks.

        Raises EmbedStarError after `timeout_s` or when the stack failed, and StopRequested
        when it was stopped.
        """
        deadline_s = time.monotonic() + timeout_s
        while missing := self._not_ready():
            if self._supervisor.finished.wait(_POLL_S):
                self.wait()
                raise StopRequested
            if time.monotonic() >= deadline_s:
                raise EmbedStarError(
                    f"not ready within {timeout_s:g} s: {', '.join(missing)}; "
                    f"the logs are in {self.servers.data.path / 'logs'}"
                )

    def wait(self) -> None:
        """Wait until the stack is stopped. Raises EmbedStarError when it failed."""
        self._supervisor.finished.wait()
        if self._supervisor.failure is not None:
            raise self._supervisor.failure

    def request_stop(self) -> None:
        """Begin to stop, without waiting. Safe in a signal handler."""
        self.stop_requested = True
        self._supervisor.request_stop()

    def raise_if_stopping(self) -> None:
        """Raise StopRequested once a stop was asked for."""
        if self.stop_requested:
            raise StopRequested

    def kill(self) -> None:
        """Send SIGKILL to every child, which ends a slow stop. Safe in a signal handler."""
        self._killed = True
        for child in list(self.processes.values()):
            child.kill()

    def stop(self) -> None:
        """Stop everything in order, and wait for it. A second call changes nothing."""
        self.request_stop()
        if self._supervised:
            self._supervisor.finished.wait()
        else:
            self._shut_down()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _child_ended(self, child: Child) -> None:
        self._supervisor.child_ended(child)

    def _tell_servers(self) -> None:
        ports = self.servers.ports
        kind = "" if self.servers.engine == "server" else " (embedded engine)"
        self._report(f"Redis on 127.0.0.1:{ports['redis']}")
        self._report(f"SurrealDB{kind} on 127.0.0.1:{ports['surrealdb']}")

    def _run_migrations(self) -> None:
        if self._migrate is None:
            return
        root = self.servers.root_environment
        argv = (*self._migrate.argv, "--bootstrap") if root else self._migrate.argv
        child = self._child(MIGRATE, argv, root)
        self._running[MIGRATE] = child  # for `kill`
        try:
            await_ready(child, lambda: None, MIGRATE_S, lambda: self.stop_requested)
        finally:
            child.stop(MIGRATE_STOP_S)
            del self._running[MIGRATE]
        if child.returncode != 0:
            said = re.findall(r"^embed-star: (.+)$", child.output(), re.MULTILINE)
            why = said[-1] if said else child.describe_end()
            raise EmbedStarError(f"the migrations failed: {why}; their log is {child.log}")
        self._report("schema up to date")
        # It may cost money, so it is not left to a log.
        for said in re.findall(r"^.*embedded anew|^that is .*", child.output(), re.MULTILINE):
            self._report(said)

    def _publish(self) -> None:
        self.servers.reaper.sweep(self.servers.data.local_env)
        self._published = True
        self.servers.data.write_local_env(self.environment)

    def _launch(self, name: str) -> None:
        port = str(self.monitoring_ports.get(name, 0))
        own = {"MONITORING_PORT": port, "MONITORING_HOST": "127.0.0.1"}
        self._running[name] = self._child(name, self._programs[name].argv, own)

    def _child(
        self, name: str, argv: tuple[str, ...], extra: Mapping[str, str] | None = None
    ) -> Child:
        own = {"PYTHONUNBUFFERED": "1", **(extra or {})}
        command = Command(argv, {**inherited(self._env), **self.environment, **own})
        log = self.servers.data.log(name)
        return Child(name, command, log, self.servers.reaper, self._child_ended)

    def _not_ready(self) -> list[str]:
        nodes = listening_workers(self.servers.redis_url)
        return [
            name
            for name, program in self._programs.items()
            if self._running[name].ended.is_set() or (program.node and program.node not in nodes)
        ]

    def _shut_down(self) -> None:
        """Stop everything, once. The supervisor's thread calls it, too."""
        if self._stopped:
            return
        self._stopped = True
        try:
            if self._published:
                self.servers.data.local_env.unlink(missing_ok=True)
                self._report("stopping; work under way may finish, a second Ctrl-C cuts it off")
        finally:  # also when the terminal is gone
            self._stop_all()

    def _stop_all(self) -> None:
        # A call to the provider that has begun is paid for: let it end, and be stored.
        grace_s = self._settings.timings.grace_s + SHUTDOWN_MARGIN_S
        for group in stop_order(self._running):
            children = [self._running[name] for name in group]
            stop_together(children, 0.0 if self._killed else grace_s)
        self.servers.stop(grace_s=0.0 if self._killed else GRACE_S)


def _own_settings(env: Mapping[str, str]) -> Settings:
    """The settings, overridden by `env`. Ignores `local.env`, which the stack itself writes."""
    known = {name.lower(): value for name, value in env.items() if value}
    fields = {name: value for name, value in known.items() if name in Settings.model_fields}
    return load_settings(**{"_env_file": ".env", "db_pass": "set by the stack", **fields})
