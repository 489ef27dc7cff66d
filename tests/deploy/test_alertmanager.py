"""The example of an Alertmanager: who is told, and of what nobody is, asked of a real one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import requests

from embed_star.devstack.servers import free_port
from tests.support.monitoring import ALERTMANAGER, alerts, get_json, program, run_program
from tests.support.servers import eventually

ALERTS = alerts()
ROUTED = sorted({tuple(sorted(rule["labels"].items())) for rule in ALERTS.values()})


def test_it_is_valid() -> None:
    run_program("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("labels", ROUTED, ids=lambda labels: "-".join(dict(labels).values()))
def test_pages_wake_somebody_and_tickets_do_not(labels: tuple[tuple[str, str], ...]) -> None:
    shown = [f"{name}={value}" for name, value in labels]
    config = f"--config.file={ALERTMANAGER}"
    routed = run_program("amtool", "config", "routes", "test", config, *shown)
    assert routed.split() == ["pager" if "severity=page" in shown else "tickets"]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one that runs with the example."""
    url = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            program("prometheus-alertmanager"),
            f"--config.file={ALERTMANAGER}",
            f"--storage.path={tmp_path_factory.mktemp('alertmanager')}",
            f"--web.listen-address={url}",
            "--cluster.listen-address=",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: _is_ready(f"http://{url}/-/ready"), "the Alertmanager is ready")
        yield f"http://{url}/api/v2/alerts"
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False


PROVIDER = {"provider": "openai", "model": "m"}


def fire(url: str, *names: str) -> dict[str, str]:
    """Alert → `active` or `suppressed` when exactly these fire."""
    firing = [
        {"labels": {"alertname": name, **ALERTS[name]["labels"], **PROVIDER}} for name in ALERTS
    ]
    for one in firing:
        if one["labels"]["alertname"] not in names:
            one["endsAt"] = "2020-01-01T00:00:00Z"
    requests.post(url, json=firing, timeout=10).raise_for_status()
    states: dict[str, str] = {}

    def all_known() -> bool:
        found = {one["labels"]["alertname"]: one["status"]["state"] for one in get_json(url)}
        states.clear()
        states.update(found)
        return states.keys() == set(names) and "unprocessed" not in states.values()

    eventually(all_known, "the alerts are processed")
    return states


def active(url: str, *names: str) -> set[str]:
    return {name for name, state in fire(url, *names).items() if state == "active"}


def test_a_database_that_is_away_silences_all_else(alertmanager: str) -> None:
    everything = set(ALERTS) - {"EmbedStarRedisAway"}
    assert active(alertmanager, *everything) == {"EmbedStarDatabaseAway"}


@pytest.mark.parametrize(
    ("firing", "told"),
    [
        # Both are away: two faults, two words.
        ("DatabaseAway RedisAway BacklogStalled", "DatabaseAway RedisAway"),
        ("NoWorkers ProcessDown SweepMissing BacklogStalled FreshnessBurning", "NoWorkers"),
        ("KeyRefused ProviderPaused ProviderFailing FreshnessBurning QueueOld", "KeyRefused"),
        ("ProviderPaused BacklogStalled FreshnessBurning", "ProviderPaused"),
        ("FreshnessBurning FreshnessSlipping BacklogGrowing", "FreshnessBurning"),
        # A ticket silences no page.
        ("NoLeader ProviderSlow BacklogStalled", "NoLeader ProviderSlow BacklogStalled"),
    ],
)
def test_a_cause_silences_what_follows_from_it(alertmanager: str, firing: str, told: str) -> None:
    names = [f"EmbedStar{name}" for name in firing.split()]
    assert active(alertmanager, *names) == {f"EmbedStar{name}" for name in told.split()}
