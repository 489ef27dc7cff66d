"""The Grafana dashboard: the file, and what its queries name. Their answers: test_monitoring.py."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from deploy.grafana import dashboard
from tests.support.monitoring import CHECKOUT, metrics_named, queries_of

COMMITTED: dict[str, Any] = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in COMMITTED["panels"] if panel["type"] != "row"]


def test_the_committed_file_is_what_the_module_makes() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text(), (
        "run: python deploy/grafana/dashboard.py"
    )


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for panel in COMMITTED["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= dashboard.COLUMNS, panel["title"]
        cells.update(
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        )
    height = max(y for _, y in cells) + 1
    assert cells == Counter((x, y) for x in range(dashboard.COLUMNS) for y in range(height))


def test_ids_and_titles_are_unique() -> None:
    for one, other in combinations(COMMITTED["panels"], 2):
        assert one["id"] != other["id"]
        assert one["title"] != other["title"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_complete(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["type"] in dashboard.OPTIONS
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    fixed = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert any("{{" in one for one in legends) or fixed <= set(legends)


def test_queries_name_metrics_that_exist() -> None:
    documented = metrics_named((CHECKOUT / "docs/metrics.md").read_text(encoding="utf-8"))
    documented = {name for name in documented if not name.endswith("_")}
    histograms = {f"{name}_bucket" for name in documented if name.endswith("_seconds")}
    shown = {name for query in queries_of(COMMITTED) for name in metrics_named(query)}
    assert shown - documented - histograms == set()
