"""The figures of a run, as a table for the terminal and for docs/reliability.md."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.results import Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- figures: make faults-report -->"
END = "<!-- end of figures -->"


def print_table(results: Sequence[Result], seconds: float) -> None:
    """One line a case, and the sums."""
    lines = [f"{'fault':34} {'rows':>5} {'lost':>4} {'paid again':>12} {'recovery':>14}"]
    for one in results:
        broken = "" if not one.violations else f"  BROKEN: {one.violations[0]}"
        lines.append(
            f"{one.id[:34]:34} {one.rows:5} {one.lost:4} {_again(one):>12}"
            f" {one.recovery_s:6.1f} of {one.within_s:3.0f} s{broken}"
        )
    lines += ["", *_sums(results), f"in {seconds / 60:.1f} minutes"]
    sys.stdout.write("\n".join(lines) + "\n")


def write_into_docs(results: Sequence[Result]) -> None:
    """Put the figures of `results` between the markers of the document."""
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{after}")


def markdown(results: Sequence[Result]) -> str:
    """The sums, and a table of the named faults."""
    named = [one for one in results if one.number]
    rows = [
        f"| {one.number} | {one.name} | {one.rows} | {one.lost} | {_again(one)} |"
        f" {one.recovery_s:.1f} | {one.within_s:.0f} |"
        for one in named
    ]
    head = [
        "| # | fault | rows | lost | paid again / allowed | recovery, s | bound, s |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*(f"- {line}" for line in _sums(results)), "", *head, *rows])


def _again(one: Result) -> str:
    return f"{one.paid_again} / {one.allowed}"


def _sums(results: Sequence[Result]) -> list[str]:
    named = [one for one in results if one.number]
    seeds = [one for one in results if not one.number]
    lines = []
    for what, some in (("named cases", named), ("random mixtures", seeds)):
        if some:
            kept = sum(not one.violations for one in some)
            times = [one.recovery_s for one in some]
            lines.append(
                f"{kept} of {len(some)} {what} survived: {sum(one.rows for one in some):,} rows, "
                f"{sum(one.lost for one in some)} lost, "
                f"{sum(one.paid_again for one in some)} inputs paid again of "
                f"{sum(one.allowed for one in some)} allowed, recovery median "
                f"{statistics.median(times):.1f} s, longest {max(times):.1f} s"
            )
    return lines
