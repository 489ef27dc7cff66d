"""README's section on Kubernetes, typed word by word on a real node, and what may happen to it.

The tests are one story, in this order: each begins where the one before ended.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines.compose import get, lab_of
from tests.engines.docker import Docker, timed
from tests.engines.kubernetes import ADDRESS, Node
from tests.engines.project import Project, blocks_of
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.whole_stack import DIMENSIONS, PROMPT_RECOVERY

EXAMPLES = 350
SETTLED_S = 300.0
SINGLE = "kubectl apply -k k8s/overlays/single-node"
PRODUCTION = "kubectl apply -k k8s/overlays/production"
STORES = (
    "docker.io/surrealdb/surrealdb:v3.3.5",
    "docker.io/library/redis:8.2.1-alpine",
    "docker.io/danihodovic/celery-exporter:0.12.0",
)
"""Images that a cluster would pull."""

pytestmark = pytest.mark.timeout(1800)

(README,) = blocks_of("README.md", "Run it on Kubernetes")


class Cluster:
    """The node as a user of the project sees it."""

    def __init__(self, node: Node, project: Project) -> None:
        self.node = node
        self.project = project

    def type(self, command: str) -> str:
        with timed(f"$ {command}"):
            return self.project.type(command)

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

    def status(self) -> dict[str, Any]:
        told = self.node.kubectl("exec", "deploy/worker", "--", "embed-star", "status", "--json")
        found: dict[str, Any] = json.loads(told)
        return found

    def configure(self, overlay: str, *changes: tuple[str, str]) -> None:
        """Change places of an overlay's kustomization in the clone."""
        file = self.project.folder / "k8s/overlays" / overlay / "kustomization.yaml"
        text = file.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        file.write_text(text)

    def roll_out(self) -> None:
        for name in ("producer", "worker", "beat", "flower", "celery-exporter"):
            self.node.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")

    def lab(self, provider: ScriptedProvider) -> Lab:
        """A user of the database, by the address of its pod."""
        pod = self.json("get", "pod", "surrealdb-0")
        secrets = self.project.folder / "deploy" / "secrets"
        given = {
            "db_url": f"ws://{pod['status']['podIP']}:8000",
            "db_pass": (secrets / "db_pass").read_text(),
            "installation_id": (secrets / "installation_id").read_text(),
            "embedding_provider": "openai",
            "openai_base_url": provider.openai_url,
            "openai_api_key": "not-asked",
            "embedding_model": "scripted-model",
            "embedding_dimensions": str(DIMENSIONS),
        }
        return lab_of(given, provider)

    def reaches(self, source: str, host: str, port: int) -> bool:
        """Whether a connection from a pod of ours comes about."""
        code = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
        return self.project.ask(f'kubectl exec {source} -- python -c "{code}"').code == 0


@pytest.fixture(scope="module")
def cluster(docker: Docker, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    project = Project(tmp_path_factory.mktemp("kubernetes"), node.environment)
    with timed("images are given to the node"):
        node.load(*STORES)
    return Cluster(node, project)


@pytest.fixture(scope="module")
def provider(node: Node) -> Iterator[ScriptedProvider]:
    """At the one port that the network policies leave open for a provider."""
    options = ("--host", ADDRESS, "--port", "443", "--dimensions", str(DIMENSIONS))
    with ScriptedProvider(*options) as provider:
        yield provider


def test_the_readmes_commands(cluster: Cluster) -> None:
    *before, exec_status, port_forward = README
    for step in before:
        cluster.type(step.command)
    eventually(
        lambda: cluster.status()["embedded"] == EXAMPLES, "all rows have a vector", SETTLED_S
    )
    assert str(EXAMPLES) in cluster.type(exec_status.command)
    with subprocess.Popen(
        ["bash", "-c", f"exec {port_forward.command}"],
        env=cluster.project.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as forward:
        assert forward.stdout is not None
        assert "5555" in forward.stdout.readline()
        assert get("http://127.0.0.1:5555/workers")[0] == 401
        password = (cluster.project.folder / "deploy/secrets/flower_password").read_text()
        assert get("http://127.0.0.1:5555/workers", "embed_star", password)[0] == 200
        forward.terminate()
    cluster.roll_out()
    found = cluster.type(
        'kubectl exec deploy/worker -- embed-star search "a queue for background jobs in Python"'
    )
    assert "celery/celery" in found


def test_every_pod_is_admitted_as_restricted(cluster: Cluster) -> None:
    labels = cluster.json("get", "namespace", "embed-star")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    events = cluster.json("get", "events")["items"]
    assert [one["message"] for one in events if "PodSecurity" in one["message"]] == []


def test_applied_again_it_changes_nothing(cluster: Cluster) -> None:
    said = cluster.type(SINGLE).splitlines()
    # A budget's selector is replaced each time, equal or not: `kubectl` calls that configured.
    kinds = {line.partition("/")[0] for line in said if not line.endswith(" unchanged")}
    assert kinds <= {"poddisruptionbudget.policy"}


def test_no_word_about_containers(cluster: Cluster) -> None:
    done = cluster.project.ask("kubectl exec deploy/worker -- embed-star --version")
    assert (done.code, done.err) == (0, "")


class TestNetwork:
    """NetworkPolicies, enforced: what must pass passes, and nothing else does."""

    @pytest.mark.parametrize("source", ["producer", "worker", "beat"])
    @pytest.mark.parametrize(("store", "port"), [("surrealdb", 8000), ("redis", 6379)])
    def test_the_application_reaches_its_stores(
        self, cluster: Cluster, source: str, store: str, port: int
    ) -> None:
        assert cluster.reaches(f"deploy/{source}", store, port)

    def test_flower_sees_the_queues_and_no_more(self, cluster: Cluster) -> None:
        assert cluster.reaches("deploy/flower", "redis", 6379)
        assert not cluster.reaches("deploy/flower", "surrealdb", 8000)
        assert not cluster.reaches("deploy/flower", "cache", 6379)

    @pytest.mark.usefixtures("provider")
    def test_only_workers_reach_the_provider(self, cluster: Cluster) -> None:
        assert cluster.reaches("deploy/worker", ADDRESS, 443)
        assert not cluster.reaches("deploy/producer", ADDRESS, 443)
        assert not cluster.reaches("deploy/worker", ADDRESS, 6443)

    def test_processes_do_not_reach_each_other(self, cluster: Cluster) -> None:
        (address,) = cluster.pods("producer").values()
        assert not cluster.reaches("deploy/worker", address, 9090)


def test_the_toolbox_is_of_use_and_outlives_an_apply(cluster: Cluster) -> None:
    """The backup of docs/backup.md, with another `apply` under way."""
    text = (cluster.project.folder / "docs/backup.md").read_text()
    create, wait, backup, take = re.findall(r"^(kubectl .*)$", text, re.MULTILINE)
    cluster.type(create)
    cluster.type(wait)
    (pod,) = cluster.pods("toolbox")
    cluster.type(SINGLE)
    assert str(EXAMPLES) in cluster.type(backup)
    cluster.type(take)
    archive = cluster.project.folder / take.rpartition("> ")[2]
    assert archive.stat().st_size > 100_000
    assert list(cluster.pods("toolbox")) == [pod]
    cluster.type("kubectl exec job/toolbox -- embed-star doctor")
    cluster.type("kubectl delete job toolbox")


def test_production_is_applied(cluster: Cluster, provider: ScriptedProvider) -> None:
    """With the stores of the other overlay in the place of yours; another model, too."""
    recovery = "".join(f"\n      - {name}={value}" for name, value in PROMPT_RECOVERY.items())
    cluster.configure(
        "production",
        ("newName: registry.example.org/embed-star, newTag: 0.1.0", "newTag: local"),
        (
            "DB_URL=wss://surrealdb.example.org:8000",
            f"DB_URL=ws://surrealdb:8000\n      - OPENAI_BASE_URL={provider.openai_url}"
            f"\n      - EMBEDDING_MODEL=scripted-model\n      - EMBEDDING_DIMENSIONS={DIMENSIONS}"
            + recovery,
        ),
        ("BATCH_SIZE=100", "BATCH_SIZE=20"),
    )
    cluster.type("kubectl delete job migrate")
    cluster.type(PRODUCTION)
    cluster.type("kubectl wait --for=condition=complete job/migrate --timeout=10m")
    with timed("production has rolled out"):
        cluster.roll_out()
    eventually(lambda: len(cluster.pods("worker")) == 2, "two workers", SETTLED_S)
    with cluster.lab(provider) as lab:
        lab.await_quiet(SETTLED_S)
        eventually(
            lambda: cluster.status()["embedded"] == EXAMPLES, "the new space is full", SETTLED_S
        )
        lab.report().assert_kept()


def test_a_busy_worker_is_deleted(cluster: Cluster, provider: ScriptedProvider) -> None:
    """It may finish what it has begun: nothing is lost, nothing is paid twice."""
    with cluster.lab(provider) as lab:
        provider.script(latency_ms=1000)
        lab.insert(600)
        lab.await_asked(2)
        doomed = next(iter(cluster.pods("worker")))
        cluster.type(f"kubectl delete pod {doomed}")
        provider.script(latency_ms=0)
        lab.await_quiet(SETTLED_S)
        lab.report().assert_kept()
    eventually(lambda: len(cluster.pods("worker")) == 2, "another worker", SETTLED_S)


def test_a_wrong_setting_replaces_nothing(cluster: Cluster) -> None:
    before = cluster.pods("worker")
    cluster.configure("production", ("BATCH_SIZE=20", "BATCH_SIZE=many"))
    cluster.type("kubectl delete job migrate")
    cluster.type(PRODUCTION)

    def refused() -> bool:
        log = cluster.project.ask(
            "kubectl logs -l app.kubernetes.io/component=worker -c schema --prefix=false"
        )
        return "BATCH_SIZE" in log.out

    eventually(refused, "the new pod says what is wrong", SETTLED_S)
    assert cluster.pods("worker") == before
    cluster.configure("production", ("BATCH_SIZE=many", "BATCH_SIZE=20"))
    cluster.type("kubectl delete job migrate")
    cluster.type(PRODUCTION)
    cluster.roll_out()


def test_workers_are_stopped_and_started(cluster: Cluster, provider: ScriptedProvider) -> None:
    """As docs/runbooks/README.md says."""
    page = (cluster.project.folder / "docs/runbooks/README.md").read_text()
    start, stop = (
        re.findall(rf"^\| {what} \|.*?\|.*?`(kubectl scale [^`]+)`", page, re.MULTILINE)
        for what in ("start a worker", "stop all three")
    )
    cluster.type(stop[0])
    eventually(lambda: not cluster.pods("worker"), "no worker", SETTLED_S)
    cluster.type(start[0])
    eventually(lambda: len(cluster.pods("worker")) == 2, "two workers", SETTLED_S)
    cluster.type("kubectl scale deploy/producer deploy/beat --replicas=1")
    with cluster.lab(provider) as lab:
        keys = lab.insert(40)
        eventually(lambda: lab.embedded(keys) == 40, "rows are embedded", SETTLED_S)
        lab.await_quiet(SETTLED_S)
        lab.report().assert_kept()
