"""The project on a real Kubernetes node, as its user and as an onlooker."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.engines.compose import lab_of
from tests.engines.docker import timed
from tests.engines.kubernetes import ADDRESS, Node
from tests.engines.project import Project
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.whole_stack import DIMENSIONS

SETTLED_S = 300.0
STORES = (
    "docker.io/surrealdb/surrealdb:v3.3.5",
    "docker.io/library/redis:8.2.1-alpine",
    "docker.io/danihodovic/celery-exporter:0.12.0",
)
"""Images that a cluster would pull."""
DEPLOYMENTS = ("producer", "worker", "beat", "flower", "celery-exporter")
SINGLE = "kubectl apply -k k8s/overlays/single-node"
PRODUCTION = "kubectl apply -k k8s/overlays/production"

_CONNECT = """
import concurrent.futures, json, socket, sys
def reached(target):
    try:
        socket.create_connection(target, 3).close()
    except OSError:
        return False
    return True
targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(json.dumps([one for one, so in zip(targets, pool.map(reached, targets)) if so]))
"""


class Cluster:
    """The node as a user of the project sees it."""

    def __init__(self, node: Node, project: Project) -> None:
        self.node = node
        self.project = project
        self.typed: list[str] = []

    def type(self, command: str) -> str:
        """Type a command that must work; what it printed."""
        self.typed.append(command)
        with timed(f"$ {command}"):
            return self.project.type(command)

    @contextmanager
    def forwarded(self, command: str) -> Iterator[None]:
        """`kubectl port-forward …`, for as long as the block takes."""
        self.typed.append(command)
        with subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env=self.project.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as forward:
            assert forward.stdout is not None
            assert forward.stdout.readline().startswith("Forwarding from")
            try:
                yield
            finally:
                forward.terminate()

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.node.kubectl(*arguments, "-o", "json"))
        return found

    def pods(self, component: str) -> dict[str, str]:
        """Name → address of a component's pods that are ready."""
        listed = self.json("get", "pods", "-l", f"app.kubernetes.io/component={component}")
        return {
            one["metadata"]["name"]: one["status"]["podIP"]
            for one in listed["items"]
            if "deletionTimestamp" not in one["metadata"]
            and any(
                (found["type"], found["status"]) == ("Ready", "True")
                for found in one["status"].get("conditions", ())
            )
        }

    def await_pods(self, component: str, number: int) -> None:
        eventually(
            lambda: len(self.pods(component)) == number, f"{number} of {component}", SETTLED_S
        )

    def status(self) -> dict[str, Any]:
        told = self.node.kubectl("exec", "deploy/worker", "--", "embed-star", "status", "--json")
        found: dict[str, Any] = json.loads(told)
        return found

    def secret(self, name: str) -> str:
        return (self.project.folder / "deploy" / "secrets" / name).read_text()

    def configure(self, overlay: str, *changes: tuple[str, str]) -> None:
        """Change places of an overlay's kustomization in the clone."""
        file = self.project.folder / "k8s/overlays" / overlay / "kustomization.yaml"
        text = file.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        file.write_text(text)

    def roll_out(self) -> None:
        """Until all deployments are as they were applied."""
        for name in DEPLOYMENTS:
            self.node.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")

    def lab(self, provider: ScriptedProvider) -> Lab:
        """A user of the database, by the address of its pod."""
        pod = self.json("get", "pod", "surrealdb-0")
        given = {
            "db_url": f"ws://{pod['status']['podIP']}:8000",
            "db_pass": self.secret("db_pass"),
            "installation_id": self.secret("installation_id"),
            "embedding_provider": "openai",
            "openai_base_url": provider.openai_url,
            "openai_api_key": "not-asked",
            "embedding_model": "scripted-model",
            "embedding_dimensions": str(DIMENSIONS),
        }
        return lab_of(given, provider)

    def reached(self, source: str, targets: Mapping[str, tuple[str, int]]) -> set[str]:
        """The names of those `targets` to which connections from a pod come about."""
        wanted = json.dumps(list(targets.values()))
        told = self.node.kubectl("exec", *source.split(), "--", "python", "-c", _CONNECT, wanted)
        found = {(host, port) for host, port in json.loads(told)}
        return {name for name, target in targets.items() if target in found}

    def run_pod(self, namespace: str) -> str:
        """Start a pod of the application's image elsewhere; its name for `reached`."""
        sleep = f"import time; time.sleep({SETTLED_S})"
        pod = ("probe", "--image=embed-star:local", "--restart=Never")
        began = time.monotonic()
        while self.json("get", "serviceaccounts", "-n", namespace)["items"] == []:
            assert time.monotonic() - began < SETTLED_S
        self.node.kubectl("-n", namespace, "run", *pod, "--command", "--", "python", "-c", sleep)
        self.node.kubectl(
            "-n", namespace, "wait", "--for=condition=ready", "--timeout=180s", "pod/probe"
        )
        return f"-n {namespace} probe"


def load_stores(node: Node) -> None:
    """Give the node what a cluster would pull."""
    with timed("images are given to the node"):
        node.load(*STORES)


def serve_provider() -> ScriptedProvider:
    """At the one port that the network policies leave open for a provider."""
    options = ("--host", ADDRESS, "--port", "443", "--dimensions", str(DIMENSIONS))
    return ScriptedProvider(*options)
