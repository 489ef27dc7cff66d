"""The figures of embed_star and its peers, as tables for the terminal and the document."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: python -m bench peers --write -->"
END = "<!-- end of figures -->"

_HEADER = (
    "| | rows/s | over the bare INSERT | processor, own | processor, database "
    "| calls | texts a row | memory, own |\n|---|---|---|---|---|---|---|---|"
)
_KILLED = (
    "| killed in the middle | rows had by then | all rows after | texts paid again |\n"
    "|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One turn of one of them; the processor's time in seconds."""

    name: str
    database: str
    rows: int
    seconds: float
    """From the first call to the provider until all rows have their vectors."""
    own_s: float
    database_s: float
    calls: int = 0
    texts: int = 0
    memory_mb: float = 0
    """None of the database's, nor of Redis."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of one whose worker was killed."""

    name: str
    rows: int
    had: int
    seconds: float
    """From the kill until all rows have their vectors."""
    texts: int


def tables(runs: Sequence[Run], bare: Sequence[Run], killed: Sequence[Killed]) -> str:
    """All figures: the median of each, over the turns."""
    base = {of[0].database: _rate(of) for of in _by_name(bare)}
    lines = [_about(runs), "", _HEADER]
    lines += [_line(of, base) for of in (*_by_name(runs), *_by_name(bare))]
    if killed:
        lines += ["", _KILLED]
        lines += [
            f"| {one.name} | {one.had:,} | {one.seconds:.1f} s | {one.texts - one.rows:,} |"
            for one in killed
        ]
    return "\n".join(lines)


def write(told: str, document: Path = DOCUMENT) -> None:
    """Put `told` between the markers of the document."""
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")


def _about(runs: Sequence[Run]) -> str:
    turns = len(runs) // len(_by_name(runs))
    return (
        f"{runs[0].rows:,} rows a turn, the median of {turns} turns; the processor's in ms a row."
    )


def _by_name(runs: Sequence[Run]) -> list[list[Run]]:
    names = dict.fromkeys(run.name for run in runs)
    return [[run for run in runs if run.name == name] for name in names]


def _rate(of: Sequence[Run]) -> float:
    return statistics.median(run.rows / run.seconds for run in of)


def _line(of: Sequence[Run], base: dict[str, float]) -> str:
    first = of[0]
    own, database = (_ms_a_row(of, figure) for figure in ("own_s", "database_s"))
    cells = [first.name, f"{_rate(of):,.0f}"]
    if not first.calls:
        return _row([*cells, "", "", database, "", "", ""])
    calls, texts, memory = (
        statistics.median(map(attrgetter(name), of)) for name in ("calls", "texts", "memory_mb")
    )
    ratio = f"{_rate(of) / base[first.database]:.2f}"
    paid = f"{texts / first.rows:.2f}"
    return _row([*cells, ratio, own, database, f"{calls:,.0f}", paid, f"{memory:,.0f} MB"])


def _ms_a_row(of: Sequence[Run], figure: str) -> str:
    return f"{statistics.median(getattr(run, figure) / run.rows for run in of) * 1000:.2f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
