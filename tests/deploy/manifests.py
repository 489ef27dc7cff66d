"""The manifests of k8s/ as kustomize renders them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import CHECKOUT, check

Manifest = dict[str, Any]

OVERLAYS = ("single-node", "production")
ALL = "production-all"
"""The overlay production, with what needs an operator: PodMonitors, and the other autoscaler."""
VARIANTS = (*OVERLAYS, ALL)
CUSTOM = ("PodMonitor", "PrometheusRule", "ScaledObject", "ExternalSecret")


def render(variant: str, folder: Path) -> list[Manifest]:
    """All documents of a variant."""
    source = CHECKOUT
    if variant == ALL:
        source = folder
        for part in ("k8s", "deploy/flower", "deploy/redis"):
            shutil.copytree(CHECKOUT / part, folder / part)
        file = folder / "k8s/overlays/production/kustomization.yaml"
        text = file.read_text().replace("  - ../../components/hpa\n", "")
        assert text.count("  # - ../../components/") == 2
        file.write_text(text.replace("  # - ../../components/", "  - ../../components/"))
    overlay = variant.removesuffix("-all")
    text = check("kustomize", "build", str(source / "k8s" / "overlays" / overlay), cwd=source)
    return [document for document in yaml.safe_load_all(text) if document]


def dump(manifests: list[Manifest]) -> str:
    return yaml.safe_dump_all(manifests, sort_keys=False)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [one for one in of_kind(manifests, kind) if one["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and template of everything that makes pods."""
    for one in of_kind(manifests, "Deployment", "StatefulSet", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]
    for one in of_kind(manifests, "CronJob"):
        yield one["metadata"]["name"], one["spec"]["jobTemplate"]["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector (matchLabels, matchExpressions with In) fits the labels."""
    plain = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in plain.items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
