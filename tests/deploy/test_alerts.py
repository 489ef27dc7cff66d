"""The alert rules and their promtool cases. promtool is in Debian's package prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import (
    CHECKOUT,
    PROMETHEUS,
    RULES,
    alerts,
    all_rules,
    metrics_named,
    run_program,
)

CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTS = alerts()
RECORDS = {rule["record"] for rule in all_rules() if "record" in rule}
LAYERS = ("dependency", "process", "provider", "flow")


def cases() -> list[dict[str, Any]]:
    return [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]


def expectations() -> dict[str, set[bool]]:
    """Alert → whether its cases expect it to fire, to be silent, or both."""
    found: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for case in cases():
        for one in case.get("alert_rule_test", ()):
            found[one["alertname"]].add(bool(one["exp_alerts"]))
    return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_cases_hold(path: Path) -> None:
    run_program("promtool", "test", "rules", str(path))


def test_the_configuration_is_valid() -> None:
    run_program("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    assert expectations()[alert] == {True, False}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_says_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["labels"]["layer"] in LAYERS
    assert {"summary", "description", "runbook"} == rule["annotations"].keys()


def test_pages_wait_for_two_minutes_at_least() -> None:
    """But for the key, which does not come back by itself."""
    pages = [rule for rule in ALERTS.values() if rule["labels"]["severity"] == "page"]
    hasty = {rule["alert"] for rule in pages if int(rule["for"].removesuffix("m")) < 2}
    assert hasty == {"EmbedStarKeyRefused"}


def test_what_is_recorded_is_used() -> None:
    used = "\n".join(rule["expr"] for rule in all_rules())
    used += "\n".join(path.read_text() for path in CHECKOUT.glob("deploy/grafana/dashboards/*"))
    assert {name for name in RECORDS if name not in used} == set()


def test_rules_cases_and_runbooks_name_metrics_that_exist() -> None:
    """As docs/metrics.md lists them, which a test of its own holds to what is exposed."""
    documented = metrics_named((CHECKOUT / "docs/metrics.md").read_text(encoding="utf-8"))
    documented |= {f"{name}_bucket" for name in documented if name.endswith("_seconds")}
    files = [*RULES, *CASES, *(CHECKOUT / "docs/runbooks").glob("*.md")]
    # Names of tasks and of rule groups look the same.
    named = {name for path in files for name in metrics_named(_without_names(path.read_text()))}
    assert named - documented == set()


def _without_names(text: str) -> str:
    return re.sub(r"^ *- name:.*$|^group_eval_order:.*$", "", text, flags=re.MULTILINE)
