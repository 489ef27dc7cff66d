"""Print the rules of deploy/prometheus/rules as a PrometheusRule, for Prometheus' operator.

python3 deploy/prometheus_rule.py | kubectl apply -f -

Prometheus' operator takes the rules that its Prometheus selects: by default, with
kube-prometheus-stack, those with the name of its Helm release in the label `release`.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

RULES = Path(__file__).resolve().parent / "prometheus" / "rules"

HEAD = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: embed-star
  namespace: embed-star
  labels: {{release: {release}}}
spec:
  groups:
"""


def manifest(release: str, folder: Path = RULES) -> str:
    """One manifest with the groups of all files. Text goes through as it is, comments too."""
    groups = []
    for path in sorted(folder.glob("*.yml")):
        _, begin, body = path.read_text(encoding="utf-8").partition("groups:\n")
        if not begin:
            raise SystemExit(f"{path.name} has no line `groups:`")
        groups.append(textwrap.indent(body.rstrip() + "\n", "  "))
    return HEAD.format(release=release) + "".join(groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--release", default="kube-prometheus-stack", help="of the label")
    print(manifest(parser.parse_args().release), end="")


if __name__ == "__main__":
    main()
