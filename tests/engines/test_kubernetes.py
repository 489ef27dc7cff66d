"""README's section on Kubernetes, typed word by word on a real node: the overlay `single-node`.

The tests are one story, in this order: each begins where the one before ended. The overlay
`production` goes on with it, in `test_production.py`.
"""

from __future__ import annotations

import re

import pytest

from tests.engines.cluster import SETTLED_S, SINGLE, Cluster
from tests.engines.compose import get
from tests.engines.docker import timed
from tests.engines.kubernetes import ADDRESS
from tests.engines.project import blocks_of
from tests.support.servers import eventually

EXAMPLES = 350
METRICS_PORT = 9090
STORES = {"surrealdb": ("surrealdb", 8000), "redis": ("redis", 6379), "cache": ("cache", 6379)}

pytestmark = pytest.mark.timeout(1800)

(README,) = blocks_of("README.md", "Run it on Kubernetes")


def test_the_readmes_commands(cluster: Cluster) -> None:
    *before, exec_status, port_forward = README
    for step in before:
        cluster.type(step.command)
    with timed("350 rows have their vector"):
        eventually(
            lambda: cluster.status()["embedded"] == EXAMPLES, "all rows have a vector", SETTLED_S
        )
    assert str(EXAMPLES) in cluster.type(exec_status.command)
    with cluster.forwarded(port_forward.command):
        assert get("http://127.0.0.1:5555/workers")[0] == 401
        password = cluster.secret("flower_password")
        assert get("http://127.0.0.1:5555/workers", "embed_star", password)[0] == 200
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

    def test_each_reaches_what_it_needs(self, cluster: Cluster) -> None:
        for source in ("producer", "worker", "beat"):
            assert cluster.reached(f"deploy/{source}", STORES) == set(STORES), source
        # It sees the queues, and no more.
        assert cluster.reached("deploy/flower", STORES) == {"redis"}

    @pytest.mark.usefixtures("provider")
    def test_only_workers_reach_the_provider(self, cluster: Cluster) -> None:
        outside = {"provider": (ADDRESS, 443), "the API server": (ADDRESS, 6443)}
        assert cluster.reached("deploy/worker", outside) == {"provider"}
        assert cluster.reached("deploy/producer", outside) == set()

    def test_prometheus_reaches_metrics_and_others_nothing(self, cluster: Cluster) -> None:
        """From our own pods, from a namespace `monitoring`, and from any other."""
        (producer,) = cluster.pods("producer").values()
        (flower,) = cluster.pods("flower").values()
        ours = {
            "metrics": (producer, METRICS_PORT),
            "flower": (flower, 5555),
            "surrealdb": ("surrealdb.embed-star", 8000),
            "redis": ("redis.embed-star", 6379),
        }
        assert "metrics" not in cluster.reached("deploy/worker", ours)
        cluster.node.kubectl("create", "namespace", "monitoring")
        monitoring, other = cluster.run_pod("monitoring"), cluster.run_pod("default")
        eventually(
            lambda: cluster.reached(monitoring, ours) == {"metrics"}, "metrics alone", SETTLED_S
        )
        assert cluster.reached(other, ours) == set()
        for place in (monitoring, other):
            pod = place.split()
            cluster.node.kubectl(*pod[:2], "delete", "pod", pod[2], "--now", "--wait=false")


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
    cluster.type("kubectl delete job toolbox")
