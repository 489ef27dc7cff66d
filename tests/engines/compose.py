"""The project's Compose stack on a real engine, as its user and as an onlooker."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed_star.settings import load_settings
from tests.engines.docker import Docker
from tests.engines.project import Project
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually

HEALTHY_S = 300.0
"""A health check is a Python of its own, which a busy machine starts in many seconds."""
APPLICATION = ("producer", "worker", "beat", "flower")


class Stack:
    """What `docker compose` started from a clone."""

    def __init__(self, docker: Docker, project: Project) -> None:
        self.docker = docker
        self.project = project

    def ids(self, *services: str) -> set[str]:
        """The ids of these services' containers."""
        return set(self.project.type(f"docker compose ps -q {' '.join(services)}").split())

    def states(self) -> dict[str, str]:
        """Container of a service that stays → what its health check says."""
        listed = self.project.type("docker compose --profile '*' ps --format json")
        found = (json.loads(line) for line in listed.splitlines())
        return {one["Name"]: one["Health"] or one["State"] for one in found}

    def await_healthy(self) -> None:
        """Until every container that stays is healthy."""

        def healthy() -> bool:
            found = self.states()
            return bool(found) and set(found.values()) == {"healthy"}

        eventually(healthy, "all containers are healthy", HEALTHY_S)

    def status(self) -> dict[str, Any]:
        """What `embed-star status --json` says."""
        told = self.project.type("docker compose exec -T worker embed-star status --json")
        found: dict[str, Any] = json.loads(told)
        return found

    def killed(self, since_s: float) -> list[str]:
        """Containers that did not heed SIGTERM within their grace, since then."""
        told = self.docker(
            *("events", "--since", f"{since_s:.0f}", "--until", f"{time.time() + 1:.0f}"),
            *("--filter", "event=die", "--format", "{{json .Actor.Attributes}}"),
        )
        ends = [json.loads(line) for line in told.splitlines()]
        assert ends, "no container has ended"
        return [one["name"] for one in ends if one["exitCode"] == "137"]

    def secret(self, name: str) -> str:
        return (self.project.folder / "deploy" / "secrets" / name).read_text()

    def lab(self, provider: ScriptedProvider, **settings: str) -> Lab:
        """A user of the database through its port, with the settings of `.env`."""
        lines = (self.project.folder / ".env").read_text().splitlines()
        given = {name.lower(): value for name, value in (line.split("=", 1) for line in lines)}
        given |= {
            "db_url": "ws://127.0.0.1:8000",
            "db_pass": self.secret("db_pass"),
            "installation_id": self.secret("installation_id"),
            "openai_api_key": "not-asked",
            **settings,
        }
        return lab_of(given, provider)

    def leftovers(self) -> dict[str, list[str]]:
        """Volumes and images without a name."""
        volumes = self.docker("volume", "ls", "--quiet").split()
        return {
            "volumes": [one for one in volumes if not one.startswith("embed-star_")],
            "images": self.docker("images", "--quiet", "--filter", "dangling=true").split(),
        }


def lab_of(settings: Mapping[str, Any], provider: ScriptedProvider) -> Lab:
    """A lab whose new rows are not those of an earlier one on the same database."""
    lab = Lab(load_settings(_env_file=None, **settings), provider)
    (found,) = lab.query("SELECT count() FROM repo GROUP ALL")
    lab.reserve(found[0]["count"] if found else 0)
    return lab


def get(url: str, user: str = "", password: str = "") -> tuple[int, str]:
    """Status and body of an answer."""
    request = urllib.request.Request(url)
    if user:
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def sizes(folder: Path, docker: Docker) -> str:
    """How much the engine and the images take, for the log."""
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}")
    return f"{listed}{docker('system', 'df')}"
