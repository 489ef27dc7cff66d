"""docker-compose.yml as Compose understands it, and its services as processes of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed_star.devstack.processes import Child, Command, stop_together
from embed_star.devstack.reaper import Reaper
from embed_star.devstack.servers import free_port
from tests.deploy.tools import CHECKOUT, check
from tests.support.command_line import CELERY, EMBED_STAR, Finished, run
from tests.support.servers import eventually, find_surreal

APP = ("migrate", "producer", "worker", "beat", "flower")
SECRETS = "/run/secrets"
START_S = 60.0


def make_secrets(folder: Path) -> str:
    """Run the script behind `make secrets`; what it printed."""
    script = CHECKOUT / "deploy" / "make_secrets.py"
    return run(sys.executable, str(script), str(folder)).assert_worked()


def project(folder: Path) -> dict[str, Any]:
    """The file with everything filled in, all profiles included, as a newcomer has it."""
    shutil.copy(CHECKOUT / "docker-compose.yml", folder)
    shutil.copytree(
        CHECKOUT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets")
    )
    make_secrets(folder / "deploy" / "secrets")
    text = check("compose-spec", "-format", "json", "docker-compose.yml", cwd=folder)
    loaded: dict[str, Any] = json.loads(text)
    return loaded


class LocalProject:
    """The services' own commands, environments, files and secrets, without containers.

    What a container has of its own becomes this machine's: addresses and ports of other
    services, /run/secrets, volumes, and the programs' paths. Nothing else is changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "project").mkdir()
        self.project = project(folder / "project")
        self.services: dict[str, Any] = self.project["services"]
        self.ports = {name: free_port() for name in self.services}
        self.flower_port = free_port()
        self._lock = os.open(folder, os.O_RDONLY)
        self._reaper = Reaper(self._lock)
        self._children: list[Child] = []

    def close(self) -> None:
        stop_together([child for child in self._children if not child.ended.is_set()], 40.0)
        self._reaper.close()
        os.close(self._lock)

    def start(self, service: str, **env: str) -> Child:
        """Start a service's command."""
        command = Command(tuple(self.argv(service)), {**self.environment(service), **env})
        log = self.folder / f"{service}.log"
        child = Child(service, command, log, self._reaper)
        self._children.append(child)
        return child

    def children(self, *services: str) -> list[Child]:
        """The processes of these services, in this order."""
        by_name = {child.name: child for child in self._children}
        return [by_name[service] for service in services]

    def run(self, service: str, *argv: str, stdin: str = "", **env: str) -> Finished:
        """Run a service's command, or another one in its place, to its end."""
        chosen = list(argv) or self.argv(service)
        done = subprocess.run(
            chosen,
            env={**self.environment(service), **env},
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def await_healthy(self, child: Child) -> None:
        """Until the service's own health check succeeds."""

        def healthy() -> bool:
            assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()}"
            return self.health(child.name) == 0

        eventually(healthy, f"{child.name} is healthy", START_S)

    def health(self, service: str) -> int:
        """The exit code of the service's health check."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        words = [self.localised(service, word) for word in words]
        if kind == "CMD-SHELL":
            words = ["sh", "-c", *words]
            words[2] = words[2].replace("redis-cli", f"redis-cli -p {self.ports[service]}")
        elif words[0] == "/surreal":
            words[0] = str(find_surreal())
        else:
            assert words[0] == "python"
            words[0] = sys.executable
        done = subprocess.run(
            words, env=self.environment(service), capture_output=True, timeout=30, check=False
        )
        return done.returncode

    def argv(self, service: str) -> list[str]:
        """The command, with this machine's programs, ports and directories."""
        words = [self.localised(service, word) for word in self.services[service]["command"]]
        program, *rest = words
        if program == "embed-star":
            return [*EMBED_STAR, *rest]
        if program == "celery":
            assert rest[:2] == ["-A", "embed_star"]
            return [*CELERY, *rest[2:]]
        if program == "redis-server":
            return [shutil.which(program) or program, str(self._redis_file(service, rest[0]))]
        assert (service, program) == ("surrealdb", "start")
        return [str(find_surreal()), *words]

    def _redis_file(self, service: str, mounted: str) -> Path:
        """Redis' own file, with nothing changed but port and paths."""
        text = Path(mounted).read_text()
        assert text.count("port 6379\n") == text.count("dir /data\n") == 1
        text = text.replace("port 6379\n", f"port {self.ports[service]}\nbind 127.0.0.1\n")
        text = text.replace("dir /data\n", f"dir {self.data(service, '/data')}\n")
        file = self.folder / f"{service}.conf"
        file.write_text(text.replace(SECRETS, str(self.secrets(service))))
        return file

    def environment(self, service: str) -> dict[str, str]:
        """PATH and the like, and what the service is given."""
        spec = self.services[service]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        given: dict[str, str] = {}
        for file in spec.get("env_file", ()):
            path = Path(file["path"])
            if path.exists():
                lines = path.read_text().splitlines()
                given |= dict(line.split("=", 1) for line in lines if "=" in line)
        given |= {name: str(value) for name, value in spec.get("environment", {}).items()}
        own = {name: self.localised(service, value) for name, value in given.items()}
        return {**inherited, "PYTHONPATH": str(CHECKOUT), **own}

    def localised(self, service: str, text: str) -> str:
        """`text` with this machine's addresses and paths."""
        pairs = {
            "ws://surrealdb:8000": f"ws://127.0.0.1:{self.ports['surrealdb']}",
            "@redis:6379": f"@127.0.0.1:{self.ports['redis']}",
            "@cache:6379": f"@127.0.0.1:{self.ports['cache']}",
            "0.0.0.0:8000": f"127.0.0.1:{self.ports['surrealdb']}",
            "127.0.0.1:8000": f"127.0.0.1:{self.ports['surrealdb']}",
            "127.0.0.1:9090": f"127.0.0.1:{self.ports[service]}",
            "127.0.0.1:5555": f"127.0.0.1:{self.flower_port}",
            SECRETS: str(self.secrets(service)),
        }
        if text == "9090":  # MONITORING_PORT
            return str(self.ports[service])
        if text == "5555":  # FLOWER_PORT
            return str(self.flower_port)
        for volume in self.services[service].get("volumes", ()):
            source = volume["source"]
            if volume["type"] == "volume":
                source = str(self.data(service, volume["target"]))
            pairs[volume["target"]] = source
        for inside, outside in pairs.items():
            text = text.replace(inside, outside)
        return text

    def data(self, service: str, target: str) -> Path:
        """The directory that stands for a volume."""
        folder = self.folder / "volumes" / service / target.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def secrets(self, service: str) -> Path:
        """What the service has in /run/secrets, and no more."""
        folder = self.folder / "secrets" / service
        if not folder.exists():
            folder.mkdir(parents=True)
            for secret in self.services[service].get("secrets", ()):
                content = Path(self.project["secrets"][secret["source"]]["file"]).read_text()
                target = folder / Path(secret["target"]).name
                target.write_text("")  # there already when this asks for itself
                target.write_text(self.localised(service, content))
        return folder


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings among it, in lower case, without the empty ones."""
    from embed_star.settings import Settings

    return {
        name.lower(): value
        for name, value in environment.items()
        if value and name.lower() in Settings.model_fields
    }
