"""The stack's SurrealDB: a real server if one is installed, else the embedded engine."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embed_star.devstack.datadir import DataDir
from embed_star.devstack.environment import for_server
from embed_star.devstack.processes import Child, Command
from embed_star.errors import ConfigError, EmbedStarError

Engine = Literal["auto", "server", "embedded"]

ROOT_USER = "root"
_DENIED = ("--deny-guests", "--deny-net", "--deny-funcs=http")
"""Denies what our queries do not need. The server denies scripting by default."""
_LISTENING = re.compile(r"^listening on ws://127\.0\.0\.1:(\d+)$", re.MULTILINE)
_ENDS_WITHIN_S = 1.0


def find_surreal(environment: Mapping[str, str]) -> Path | None:
    """The program that SURREAL_BIN names, else `surreal` on PATH, else None.

    Raises ConfigError when SURREAL_BIN names no program.
    """
    if named := environment.get("SURREAL_BIN", ""):
        if not (Path(named).is_file() and os.access(named, os.X_OK)):
            raise ConfigError("SURREAL_BIN is no program: name SurrealDB's `surreal`, or unset it")
        return Path(named).absolute()
    found = shutil.which("surreal", path=environment.get("PATH", ""))
    return Path(found) if found else None


def choose_server(
    engine: Engine, data: DataDir, environment: Mapping[str, str], *, memory: bool = False
) -> Path | None:
    """The SurrealDB server to run; None for the embedded engine.

    `auto` keeps the engine that has data in this directory: otherwise the rows would seem
    lost after a server is installed or removed. Raises ConfigError.
    """
    if engine == "embedded":
        return None
    found = find_surreal(environment)
    stored = not memory and data.surreal.exists()
    if found is None and (engine == "server" or stored):
        why = f" that {data.surreal} needs" if stored else ""
        raise ConfigError(
            f"no SurrealDB server{why}: put `surreal` on PATH, name it in SURREAL_BIN, "
            "or choose --database-engine embedded"
        )
    if engine == "auto" and not memory and not stored and data.engine.exists():
        return None
    return found


@dataclass(frozen=True, slots=True)
class SurrealServer:
    """A SurrealDB server on the loopback interface, with its own root user."""

    program: Path
    directory: Path | None
    """The data directory; None: the data stays in memory."""
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    name: str = "surrealdb"

    def command(self, port: int) -> Command:
        store = "memory" if self.directory is None else f"surrealkv://{self.directory}"
        options = ("--no-banner", "--bind", f"127.0.0.1:{port}", *_DENIED)
        argv = (str(self.program), "start", *options, store)
        secrets = {"SURREAL_USER": ROOT_USER, "SURREAL_PASS": self.password}
        return Command(argv, {**for_server(self.environment), "SURREAL_LOG": "warn", **secrets})

    def serving_port(self, child: Child, port: int) -> int | None:
        """The port, once a server there accepts our password, which no other one does.

        Raises EmbedStarError when the data directory has another root password.
        """
        login = base64.b64encode(f"{ROOT_USER}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Accept": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
        try:
            connection.request("POST", "/sql", body=b"RETURN 1", headers=headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        # Refused by our server, or by a stranger on the port, in which case ours ends.
        if status == 401 and not child.ended.wait(_ENDS_WITHIN_S):
            raise EmbedStarError(
                f"{self.directory} has another root password than credentials.json beside it: "
                "restore that file, or remove both to begin anew"
            )
        return port if status == 200 else None


@dataclass(frozen=True, slots=True)
class EmbeddedEngine:
    """The SDK's engine behind its gateway, with one database and one user."""

    directory: Path | None
    """The data directory; None: the data stays in memory."""
    user: str
    password: str = field(repr=False)
    namespace: str
    database: str
    environment: Mapping[str, str] = field(repr=False)
    name: str = "surrealdb"

    def command(self, port: int) -> Command:
        store = ("--memory",) if self.directory is None else ("--path", str(self.directory))
        argv = (sys.executable, "-m", "embed_star.devstack.embedded.gateway", *store)
        argv += ("--host", "127.0.0.1", "--port", str(port), f"--user={self.user}")
        argv += (f"--namespace={self.namespace}", f"--database={self.database}")
        own = {"PYTHONUNBUFFERED": "1", "EMBED_STAR_GATEWAY_PASS": self.password}
        return Command(argv, {**for_server(self.environment), **own})

    def serving_port(self, child: Child, port: int) -> int | None:
        """The port that the gateway prints once it listens."""
        del port
        line = _LISTENING.search(child.output())
        return int(line.group(1)) if line else None
