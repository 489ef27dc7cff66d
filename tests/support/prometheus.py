"""A real Prometheus with the committed configuration and rules, on this machine's ports."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import requests
import yaml

from embed_star.devstack.servers import free_port
from tests.support.monitoring import PROMETHEUS, RULES, program
from tests.support.servers import eventually

RANGE = {"$__rate_interval": "15s"}
"""Grafana's variables: what it would put for them, with a scrape every second."""


def configuration(targets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The committed configuration, with ports of this machine in place of names in DNS.

    Jobs without a target are left out. Scrapes are a second apart, or a run would have to
    last for an hour.
    """
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = [str(path) for path in RULES]
    del config["alerting"]
    config["scrape_configs"] = [
        {
            "job_name": job["job_name"],
            "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
        }
        for job in config["scrape_configs"]
        if (ports := targets.get(job["job_name"]))
    ]
    return config


class Prometheus:
    """Scrapes `targets` (job → ports) while the `with` block runs."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[int]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(targets)))
        self._jobs = [job for job, ports in targets.items() if ports]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(self._sees_all, "Prometheus scrapes every job", 30.0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples now. Fails with Prometheus' own words when it refuses the expression."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, seconds: float, step_s: float) -> list[dict[str, Any]]:
        """The series of the last `seconds`."""
        now = time.time()
        return self._ask("query_range", query=expression, start=now - seconds, end=now, step=step_s)

    def value(self, expression: str) -> float:
        """The one sample that the expression has; NaN when there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else float("nan")

    def firing(self) -> set[str]:
        """Alerts that fire."""
        found = self.query('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"] for one in found}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with `health` and `lastError` of its last evaluation."""
        groups = requests.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _ask(self, what: str, **parameters: Any) -> list[dict[str, Any]]:
        for name, value in RANGE.items():
            parameters["query"] = parameters["query"].replace(name, value)
        answer = requests.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", f"{parameters['query']}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def _sees_all(self) -> bool:
        try:
            # While it reads its files, it answers 503, which is not JSON.
            if not requests.get(f"{self.url}/-/ready", timeout=10).ok:
                return False
        except requests.ConnectionError:
            return False
        return {one["metric"]["job"] for one in self.query("up == 1")} == set(self._jobs)
