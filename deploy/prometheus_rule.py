"""Print the rules of deploy/prometheus/rules as a PrometheusRule, for Prometheus' operator.

python3 deploy/prometheus_rule.py | kubectl apply -f -
"""

from __future__ import annotations

import textwrap
from pathlib import Path

RULES = Path(__file__).resolve().parent / "prometheus" / "rules"

HEAD = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: embed-star
  namespace: embed-star
spec:
  groups:
"""


def manifest(folder: Path = RULES) -> str:
    """One manifest with the groups of all files. Text goes through as it is, comments too."""
    groups = []
    for path in sorted(folder.glob("*.yml")):
        _, begin, body = path.read_text(encoding="utf-8").partition("groups:\n")
        if not begin:
            raise SystemExit(f"{path.name} has no line `groups:`")
        groups.append(textwrap.indent(body.rstrip() + "\n", "  "))
    return HEAD + "".join(groups)


if __name__ == "__main__":
    print(manifest(), end="")
