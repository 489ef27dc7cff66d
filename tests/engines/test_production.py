"""The overlay `production` on a real Kubernetes node, and what happens to deployments.

It goes on where `test_kubernetes.py` ended, with its stores in the place of yours. One story again,
in this order.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.engines.cluster import PRODUCTION, SETTLED_S, Cluster
from tests.engines.compose import get
from tests.engines.docker import timed
from tests.engines.external_metrics import external_metric
from tests.engines.project import commands_of
from tests.support.lab import Lab
from tests.support.runbook import steps_of
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.whole_stack import DIMENSIONS, PROMPT_RECOVERY

EXAMPLES = 350
IN_FLIGHT = 8 * 20
"""Rows that a worker may have with the provider: PARALLEL_WORKERS times BATCH_SIZE."""
OURS = "app.kubernetes.io/name=embed-star"

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def lab(cluster: Cluster, provider: ScriptedProvider) -> Iterator[Lab]:
    """With an empty ledger, and a provider that answers at once."""
    with cluster.lab(provider) as lab:
        provider.reset()
        yield lab


def keep_busy(lab: Lab, provider: ScriptedProvider, rows: int) -> None:
    """Let the workers have calls under way, each of a second."""
    provider.script(latency_ms=1000)
    lab.insert(rows)
    lab.await_asked(2)


def test_it_is_applied_with_another_model(cluster: Cluster, provider: ScriptedProvider) -> None:
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
    cluster.await_pods("worker", 2)
    with cluster.lab(provider) as lab:
        lab.await_quiet(SETTLED_S)
        eventually(
            lambda: cluster.status()["embedded"] == EXAMPLES, "the new space is full", SETTLED_S
        )
        lab.report().assert_kept()


def test_a_busy_worker_is_deleted(cluster: Cluster, lab: Lab, provider: ScriptedProvider) -> None:
    """It may finish what it has begun: nothing is lost, nothing is paid twice."""
    keep_busy(lab, provider, 800)
    doomed = next(iter(cluster.pods("worker")))
    cluster.type(f"kubectl delete pod {doomed}")
    provider.script(latency_ms=0)
    lab.await_quiet(SETTLED_S)
    lab.report().assert_kept()
    cluster.await_pods("worker", 2)


def test_all_are_restarted_under_load(
    cluster: Cluster, lab: Lab, provider: ScriptedProvider
) -> None:
    """As for another key: nothing is lost, nothing is paid twice."""
    (restart,) = commands_of("kubectl")["a key"]
    keep_busy(lab, provider, 800)
    cluster.type(restart)
    provider.script(latency_ms=0)
    with timed("all have rolled out"):
        cluster.roll_out()
    lab.await_quiet(SETTLED_S)
    lab.report().assert_kept()


def test_the_autoscaler_adds_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    """A metric of 0 changes nothing; three times a worker's rows make three workers."""
    spec = cluster.json("get", "hpa", "worker")["spec"]["metrics"][0]["external"]
    with external_metric(cluster.node, spec["metric"]["name"], tmp_path) as metric:

        def active() -> bool:
            found = cluster.json("get", "hpa", "worker")["status"].get("conditions", ())
            return ("ScalingActive", "True") in {(one["type"], one["status"]) for one in found}

        with timed("the autoscaler has its metric"):
            eventually(active, "the autoscaler has its metric", SETTLED_S)
        assert len(cluster.pods("worker")) == 2
        metric.value = 3 * int(spec["target"]["averageValue"].replace("k", "000"))
        with timed("a third worker"):
            cluster.await_pods("worker", 3)


def test_a_node_is_drained(
    cluster: Cluster, lab: Lab, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """One worker and one producer go at a time, and finish what they have begun.

    There is no other node, so those that went come back when this one takes pods again.
    """
    options = f"--pod-selector={OURS} --delete-emptydir-data --timeout={SETTLED_S:g}s"
    said = tmp_path / "drain"
    keep_busy(lab, provider, 1200)
    with timed("drained"), said.open("w") as output:
        with subprocess.Popen(
            ["bash", "-c", f"exec kubectl drain node1 {options}"],
            env=cluster.project.environment,
            stdout=output,
            stderr=output,
        ) as drain:
            try:
                eventually(
                    lambda: budgets(said.read_text()) == {"worker", "producer"},
                    "budgets hold back the others",
                    SETTLED_S,
                )
                assert len(cluster.pods("worker")) == 2
                assert len(cluster.pods("producer")) == 1
            finally:
                cluster.type("kubectl uncordon node1")
        assert drain.returncode == 0, said.read_text()
    provider.script(latency_ms=0)
    cluster.roll_out()
    lab.await_quiet(SETTLED_S)
    lab.report().assert_kept()


def test_a_wrong_setting_replaces_nothing(cluster: Cluster) -> None:
    before = cluster.pods("worker")
    remove, apply = commands_of("kubectl")["a setting"]
    apply = apply.replace("-k …", "-k k8s/overlays/production")
    for value in ("many", "20"):
        cluster.configure("production", ("BATCH_SIZE=20", f"BATCH_SIZE={value}"))
        cluster.type(remove)
        cluster.type(apply)
        if value == "many":
            eventually(lambda: refuses(cluster), "the new pod says what is wrong", SETTLED_S)
            assert cluster.pods("worker") == before
            cluster.configure("production", ("BATCH_SIZE=many", "BATCH_SIZE=20"))
    cluster.roll_out()


def toolboxes(cluster: Cluster) -> list[str]:
    """The pods of the toolbox's Job, also one that is about to end."""
    return cluster.node.kubectl("get", "pods", "-l", "job-name=toolbox", "-o", "name").split()


def budgets(said: str) -> set[str]:
    """The components of which `kubectl drain` may not evict another pod yet."""
    refused = r'evicting pods/"(\w+)-.*Cannot evict pod as it would violate'
    return set(re.findall(refused, said))


def refuses(cluster: Cluster) -> bool:
    """Whether a new worker says which setting is wrong."""
    log = cluster.project.ask(
        "kubectl logs -l app.kubernetes.io/component=worker -c schema --prefix=false"
    )
    return "BATCH_SIZE" in log.out


class TestTheRunbooks:
    """What docs/runbooks says for Kubernetes, typed there."""

    def test_what_is_typed_while_all_runs(self, cluster: Cluster) -> None:
        table = commands_of("kubectl")
        cluster.type(table["`embed-star status`"][0])
        cluster.type(table["start a worker"][1])
        cluster.type(table["one worker more"][0])
        cluster.type(table["its log"][0])
        (forward,) = (one for row in table.values() for one in row if "port-forward" in one)
        with cluster.forwarded(forward):
            assert get("http://127.0.0.1:9090/livez")[0] == 200

    def test_every_page(self, cluster: Cluster) -> None:
        """The first row of the table, for each command of the pages that asks the fleet."""
        cluster.node.kubectl("rollout", "status", "deployment/worker", "--timeout=300s")
        folder = cluster.project.folder / "docs/runbooks"
        pages = (page.read_text() for page in sorted(folder.glob("*.md")))
        found = dict.fromkeys(step.command for page in pages for step in steps_of(page))
        typed = [one for one in found if re.match(r"(embed-star|celery) ", one)]
        assert len(typed) > 10
        for command in typed:
            if "--bootstrap" not in command:  # root's, which workers do not have
                cluster.type(f"kubectl exec deploy/worker -- {command}")

    def test_what_is_typed_while_all_are_stopped(self, cluster: Cluster, lab: Lab) -> None:
        table = commands_of("kubectl")
        cluster.type(table["stop the producer"][0])
        stop, pause = table["stop all three"]
        cluster.type(stop)
        for name in ("producer", "worker", "beat"):
            cluster.await_pods(name, 0)
        keys = lab.insert(40)
        *doctor, remove = table["a command while they are stopped"]
        another, back = table["with another setting or key"]
        for command in (
            *doctor,
            "kubectl exec job/toolbox -- embed-star migrate --bootstrap",
            remove,
            another.replace("…", "sk-made-up"),
            *doctor,
            remove,
            back,
        ):
            cluster.type(command)
            if command == remove:  # `kubectl wait` would find its pod yet
                eventually(lambda: not toolboxes(cluster), "the toolbox is gone", SETTLED_S)
        (export,), (restore,) = table["`surreal export …`"], table["`surreal import …`"]
        cluster.type(export)
        cluster.type(restore.replace("--database stars", "--database copy"))  # it must be empty
        assert lab.pending(keys) == 40
        cluster.type(table["start a worker"][0])
        cluster.type("kubectl scale deploy/producer deploy/beat --replicas=1")
        eventually(lambda: lab.embedded(keys) == 40, "rows are embedded", SETTLED_S)
        cluster.await_pods("worker", 2)
        lab.await_quiet(SETTLED_S)
        lab.report().assert_kept()
        self._pause_keda(cluster, pause)

    @staticmethod
    def _pause_keda(cluster: Cluster, pause: str) -> None:
        """There is no KEDA here, only the kind of its object."""
        names = {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"}
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1alpha1", "served": True, "storage": True}
        kind = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "scaledobjects.keda.sh"},
            "spec": {
                "group": "keda.sh",
                "scope": "Namespaced",
                "names": names,
                "versions": [{**version, "schema": {"openAPIV3Schema": anything}}],
            },
        }
        cluster.node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(kind))
        cluster.node.kubectl("wait", "--for=condition=established", "crd/scaledobjects.keda.sh")
        cluster.type("kubectl apply -f k8s/components/keda/scaled-object.yaml")
        cluster.type(pause)
        cluster.type(pause.replace("=0", "-"))


def test_redis_is_deleted(cluster: Cluster, lab: Lab, provider: ScriptedProvider) -> None:
    """The fleet goes on by itself, and what is paid again was in flight."""
    keep_busy(lab, provider, 800)
    cluster.type("kubectl delete pod redis-0")
    provider.script(latency_ms=0)
    with timed("all rows are embedded, after Redis was deleted"):
        lab.await_quiet(SETTLED_S)
    with timed("all are ready again, after that"):
        for name, number in (("producer", 1), ("worker", 2), ("beat", 1)):
            cluster.await_pods(name, number)
    lab.report().assert_kept(paid_again=2 * IN_FLIGHT, hits=1)


def test_no_command_of_the_runbooks_table_was_left_out(cluster: Cluster) -> None:
    table = commands_of("kubectl")
    written = [one for commands in table.values() for one in commands]
    # What is put in for `…`, and another database, stand at the end.
    starts = [re.split("…| --database ", one)[0] for one in written]
    left_out = [one for one in starts if not any(one in typed for typed in cluster.typed)]
    assert written
    assert left_out == []
