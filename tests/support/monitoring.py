"""What is committed for Prometheus, Alertmanager and Grafana, and the programs that check it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
PROMETHEUS = CHECKOUT / "deploy/prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
ALERTMANAGER = CHECKOUT / "deploy/alertmanager/alertmanager.yml"


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, and in CI it fails."""
    if found := shutil.which(name):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs {name}")
    pytest.skip(f"needs {name}: install Prometheus and its Alertmanager")


def all_rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule, in the order of the files."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    return {rule["alert"]: rule for rule in all_rules() if "alert" in rule}


def run_program(name: str, *arguments: str) -> str:
    """Run one of Prometheus' tools, which has to work; what it printed."""
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def get_json(url: str) -> Any:
    """The JSON that a server on this machine answers, whatever its status."""
    answer = requests.get(url, timeout=10)
    return answer.json()


def metrics_named(text: str) -> set[str]:
    """Every word in `text` that is one of our metrics, by its look."""
    return set(re.findall(r"\bembed_star_[a-z_]*[a-z]\b", text))


def queries_of(dashboard: Mapping[str, Any]) -> Iterator[str]:
    """The expression of every query of every panel, and of the annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]


def metrics_of(expression: str) -> set[str]:
    """The metrics, recorded ones too, that an expression asks for."""
    plain = re.sub(r'"[^"]*"|\[[^]]*\]|\b(?:by|on)\s*\([^)]*\)', "", expression)
    return set(re.findall(r"\b[a-z]+[_:][a-z_:0-9]+\b(?!\s*\()", plain))
