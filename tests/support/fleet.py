"""Processes that a test starts and ends one by one, on servers that it may stop.

A `Fleet` has a Redis, a SurrealDB server and a scripted provider. Each `Tenant` has a
database of its own on them, and so queues and locks of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from celery import Celery

from embed_star.devstack.processes import Child, Command, await_ready, stop_together
from embed_star.devstack.programs import listening_workers
from embed_star.devstack.servers import LocalServers
from embed_star.services.store import target_of
from embed_star.settings import RETIRED, load_settings
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client.connection import Connection, Target
from tasks.app import create_app
from tasks.dispatch import CeleryDispatcher
from tests.support.command_line import CELERY, EMBED_STAR
from tests.support.databases import PASSWORD, cheapen
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import local_servers
from tests.support.warm import WarmChild, can_become
from tests.support.whole_stack import DIMENSIONS, PROMPT_RECOVERY, provider_environment

START_S = 30.0
STOP_S = 20.0


class Tenant:
    """A database with its schema, and the processes that work on it."""

    def __init__(
        self,
        servers: LocalServers,
        provider: ScriptedProvider,
        env: Mapping[str, str],
        *,
        cold: bool = False,
    ) -> None:
        self.servers = servers
        self.provider = provider
        self._cold = cold
        self.env = dict(env)
        values = {name.lower(): value for name, value in env.items()}
        self.settings = load_settings(_env_file=None, **values)
        self.lab = Lab(self.settings, provider)
        self._children: list[Child] = []
        self._make_schema()

    def worker(self, *options: str, celery: tuple[str, ...] = CELERY, **env: str) -> Child:
        """A `celery worker` that takes tasks; `env` as keyword arguments in capitals.

        `celery` is the command that runs Celery with our app, for all of these.
        """
        node = f"worker{_next()}"
        child = self.start(node, *celery, "worker", "-n", f"{node}@%h", *options, **env)
        listens = await_ready(
            child,
            lambda: node in listening_workers(self.servers.redis_url) or None,
            START_S,
        )
        assert listens, f"the worker ended: {child.describe_end()}\n{child.output()}"
        return child

    def producer(self, *, embed_star: tuple[str, ...] = EMBED_STAR, **env: str) -> Child:
        """An `embed-star watch`."""
        return self.start(f"producer{_next()}", *embed_star, "watch", **env)

    def beat(self, *, celery: tuple[str, ...] = CELERY, **env: str) -> Child:
        """A `celery beat`."""
        name = f"beat{_next()}"
        schedule = self.servers.data.folder(name) / "schedule"
        return self.start(name, *celery, "beat", "-s", str(schedule), "--pidfile=", **env)

    def start(self, name: str, *argv: str, **env: str) -> Child:
        """A process of this tenant, warm if it is one of ours and the fleet is not cold."""
        command = Command(argv, {**self.inherited(), **env})
        kind = WarmChild if not self._cold and can_become(argv, command.env) else Child
        child = kind(name, command, self.servers.data.log(name), self.servers.reaper)
        self._children.append(child)
        return child

    def inherited(self) -> dict[str, str]:
        """The environment of every process of this tenant."""
        return {**os.environ, **self.env}

    @contextmanager
    def app(self) -> Iterator[Celery]:
        """The Celery app in this process, to send tasks and ask workers with."""
        with create_app(self.settings) as app:
            yield app

    def dispatch(self) -> int:
        """What a producer does in one turn; how many rows it enqueued."""
        with self.app() as app:
            return self.lab.services.backlog(CeleryDispatcher(app)).dispatch().dispatched

    def root_target(self) -> Target:
        """SurrealDB's root user, on this database."""
        return Target(
            url=self.settings.db_url,
            user=self.servers.root_environment["ROOT_DB_USER"],
            password=self.servers.root_environment["ROOT_DB_PASS"],
            namespace=self.settings.db_namespace,
            database=self.settings.db_database,
            root=True,
        )

    @contextmanager
    def plain_connection(self) -> Iterator[Connection]:
        """A connection of some application's: one that tries nothing again."""
        connection = Connection(target_of(self.settings))
        try:
            yield connection
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop all processes of this tenant."""
        stop_together([child for child in self._children if not child.ended.is_set()], STOP_S)
        self._children.clear()

    def close(self) -> None:
        self.stop()
        self.lab.services.close()

    def _make_schema(self) -> None:
        password = self.settings.db_pass.get_secret_value()
        bootstrap(self.root_target(), self.settings.db_user, password)
        if password == PASSWORD:
            cheapen(self.root_target(), self.settings.db_user)
        services = self.lab.services
        services.store.migrator.apply()
        services.store.spaces.ensure(services.space, self.settings.text_fields)


class Fleet:
    """The servers and their tenants, for a `with` block.

    Its processes have imported everything when they start (`WarmChild`), but for a `cold` fleet's.
    """

    def __init__(self, folder: Path, *, memory: bool = True, cold: bool = False) -> None:
        self.servers = local_servers(folder / "data", "server", memory=memory)
        self.provider = ScriptedProvider("--dimensions", str(DIMENSIONS))
        self._cold = cold
        self._tenants: list[Tenant] = []

    def __enter__(self) -> Self:
        self.provider.__enter__()
        try:
            self.servers.start()
        except BaseException:
            self.provider.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for tenant in self._tenants:
                tenant.close()
        finally:
            self.servers.stop()
            self.provider.__exit__(None, None, None)

    def environment(self, **env: str) -> dict[str, str]:
        """What a process needs to find the servers and the provider."""
        assert not env.keys() & RETIRED.keys()  # they would have no effect
        return {
            **self.servers.environment,
            "DB_PASS": PASSWORD,
            **provider_environment(self.provider),
            **PROMPT_RECOVERY,
            "LOG_FORMAT": "json",
            "MONITORING_PORT": "0",
            **env,
        }

    def tenant(self, **env: str) -> Tenant:
        """A new database; `env` as keyword arguments in capitals.

        Calls and batches have fixed numbers, so that tests can count them.
        """
        name = f"tenant{_next()}"
        # A model of its own, or it would find the others' vectors in the cache.
        own = {"DB_DATABASE": name, "EMBEDDING_MODEL": f"scripted-{name}"}
        own |= {"BATCH_SIZE": "10", "PARALLEL_WORKERS": "3", **env}
        made = Tenant(self.servers, self.provider, self.environment(**own), cold=self._cold)
        self._tenants.append(made)
        return made


def log_lines(child: Child) -> list[dict[str, Any]]:
    """The JSON lines that the process has logged (a worker prints its banner, too)."""
    whole = child.output().rpartition("\n")[0]  # the last line may be half written
    lines = [line for line in whole.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


_numbers = itertools.count(1)


def _next() -> int:
    return next(_numbers)
