"""docs/dashboard.png: the Grafana dashboard's panels, drawn from a run that Prometheus watched.

python -m bench.dashboard_picture            the run (some minutes), and the picture
python -m bench.dashboard_picture --redraw   the picture again, of the run before
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.panels import draw
from deploy.grafana import dashboard
from tests.support.observed_run import Story, observed
from tests.support.prometheus import Prometheus

CHECKOUT = Path(__file__).parents[1]
PICTURE = CHECKOUT / "docs" / "dashboard.png"
ANSWERS = CHECKOUT / ".embed-star" / "dashboard.json"


def main() -> None:
    """Run, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redraw", action="store_true", help="of what the run before answered")
    parser.add_argument("--part-s", type=float, default=24.0, help="seconds for each event")
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="where answers are kept")
    given = parser.parse_args()
    if not given.redraw:
        given.answers.parent.mkdir(exist_ok=True)
        given.answers.write_text(json.dumps(run(given.part_s)))
    draw(json.loads(given.answers.read_text()), PICTURE)


def run(part_s: float) -> list[dict[str, Any]]:
    """The dashboard's panels, each target with its `series`, after the story was told."""
    with tempfile.TemporaryDirectory() as folder, observed(Path(folder)) as (tenant, prometheus):
        begun = time.monotonic()
        Story(tenant, part_s).tell()
        return answered(prometheus, time.monotonic() - begun)


def answered(prometheus: Prometheus, seconds: float) -> list[dict[str, Any]]:
    """The committed dashboard's panels with what their queries answer for the last `seconds`."""
    panels: list[dict[str, Any]] = json.loads(dashboard.FILE.read_text("utf-8"))["panels"]
    step_s = max(1.0, seconds / 300)
    for panel in panels:
        for target in panel.get("targets", ()):
            target["series"] = prometheus.query_range(target["expr"], seconds, step_s)
    return panels


if __name__ == "__main__":
    main()
