"""Engines for the tests; they run inside of a `machine` only, which `make check-engines` enters."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.engines.__main__ import INSIDE
from tests.engines.cluster import Cluster, load_stores, serve_provider
from tests.engines.docker import Docker, folder
from tests.engines.kubernetes import Node
from tests.engines.project import Project
from tests.support.scripted_provider import ScriptedProvider


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A Docker engine with all images but the project's own."""
    if not os.environ.get(INSIDE):
        if os.environ.get("CI") == "true":
            pytest.fail("engines are started by `make check-engines` only")
        pytest.skip("engines are started by `make check-engines` only")
    with Docker(folder()) as docker:
        docker.make_images()
        yield docker


@pytest.fixture(scope="session")
def node(docker: Docker) -> Iterator[Node]:
    """A Kubernetes node with the stand-ins that its manifests name."""
    if not os.environ.get("KUBERNETES_BIN"):
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs a Kubernetes node: set KUBERNETES_BIN")
        pytest.skip("no Kubernetes node: KUBERNETES_BIN names no folder with node-up")
    with Node(docker, folder()) as node:
        yield node


@pytest.fixture(scope="session")
def cluster(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A clone beside the node, with nothing applied yet: two modules tell one story of it."""
    project = Project(tmp_path_factory.mktemp("kubernetes"), node.environment)
    load_stores(node)
    return Cluster(node, project)


@pytest.fixture(scope="session")
def provider(node: Node) -> Iterator[ScriptedProvider]:
    """What pods of the node may ask."""
    del node  # its address is there now
    with serve_provider() as provider:
        yield provider
