"""What docs/metrics.md says is exposed, and what a process exposes."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
PREFIX = "embed_star_"

ROLES = {
    "producer": {"process", "dispatching", "producer", "fleet"},
    "worker": {"process", "dispatching", "worker"},
    "beat": {"process", "fleet"},
}
"""A process, and the metrics it exposes, by the column `exposed by`."""


class Documented(NamedTuple):
    """A row of the table."""

    name: str
    type: str
    labels: frozenset[str]
    exposed_by: str


def documented() -> list[Documented]:
    rows = re.findall(
        r"^\| `(embed_star_\w+)` \| (\w+) \|([^|]*)\| (\w+) \| [^|]+ \| [^|]+ \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        Documented(name, kind, frozenset(re.findall(r"`(\w+)`", labels)), role)
        for name, kind, labels, role in rows
    ]


def documented_for(process: str) -> list[Documented]:
    return [one for one in documented() if one.exposed_by in ROLES[process]]


def exposed(families: Iterable[Metric]) -> dict[str, tuple[str, frozenset[str]]]:
    """Name as documented → type and labels; those of our own metrics that have samples."""
    found = {}
    for family in families:
        if family.name.startswith(PREFIX) and family.samples:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = frozenset().union(*(sample.labels for sample in family.samples)) - {"le"}
            found[name] = (family.type, labels)
    return found


def get(port: int, path: str, method: str = "GET", timeout_s: float = 10.0) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Scrape:
    """The metrics of one process at one moment."""

    def __init__(self, port: int) -> None:
        status, self.text = get(port, "/metrics")
        assert status == 200, self.text
        self.families = list(text_string_to_metric_families(self.text))
        self._samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Of the sample `embed_star_NAME` with at least these labels, summed; None: absent."""
        values = [
            sample.value
            for sample in self._samples
            if sample.name == PREFIX + name and _has(sample.labels, labels)
        ]
        return sum(values) if values else None


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
