"""The figures as tables, for the terminal and the document, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench.quality.corpus import CHECKOUT
from bench.scale.measuring import Indexed, Searched

DOCUMENT = CHECKOUT / "docs" / "search-scale.md"
PICTURE = CHECKOUT / "docs" / "search-scale.png"
BEGIN = "<!-- figures: python -m bench scale --write -->"
END = "<!-- end of figures -->"
_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#c53030", "#4a5568")
_HEADER = (
    "| searches | rows that pass | recall@10 | p50 | p99 | the server's processor |\n"
    "|---|---|---|---|---|---|"
)


@dataclass(slots=True)
class Scale:
    """All that was measured over one table."""

    rows: int
    dimensions: int
    origin: str
    users_writes: tuple[float, float]
    """With the event over without it: 100 rows in a statement, and one."""
    indexes: list[Indexed] = field(default_factory=list)


def table(one: Indexed) -> Table:
    """The searches of one index."""
    shown = Table("searches", "rows that pass", "recall@10", "p50", "p99", "processor", box=None)
    for effort in one.by_effort:
        shown.add_row(f"bare, ef {effort.name}", "", *_figures(effort))
    for searched in _by_filter(one):
        shown.add_row(searched.name, f"{searched.passing:,}", *_figures(searched))
    shown.caption = " · ".join(_costs(one))
    return shown


def write(scale: Scale) -> None:
    """Put the figures between the markers of the document, and draw the picture beside it."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    if any(one.by_effort for one in scale.indexes):
        _draw(scale)
    told = "\n\n".join([_about(scale), _indexes(scale.indexes), *map(_searches, scale.indexes)])
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")


def _about(scale: Scale) -> str:
    return (
        f"{scale.rows:,} rows with vectors of {scale.dimensions} dimensions, variants of the rows "
        f"of `{scale.origin}`. {users_writes(scale)}"
    )


def users_writes(scale: Scale) -> str:
    """One sentence about what the event costs those who write to `repo`."""
    many, one = scale.users_writes
    return (
        "The rate at which users write other fields than those of the text, with the event on "
        f"`repo` over without it: {many:.2f} with 100 rows in a statement, {one:.2f} with one."
    )


def _indexes(indexes: Sequence[Indexed]) -> str:
    lines = [
        "| index | built in | processor | memory | vectors written a second |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {one.definition} | {' | '.join(_costs(one))} |" for one in indexes]
    return "\n".join(lines)


def _costs(one: Indexed) -> tuple[str, ...]:
    if not one.build_s:
        return "", "", "", f"{one.rows_s:,.0f}"
    return (
        f"{one.build_s:,.0f} s",
        f"{one.cpu_s:,.0f} s",
        f"{one.memory_mb:,.0f} MB",
        f"{one.rows_s:,.0f}",
    )


def _searches(one: Indexed) -> str:
    rows = [(f"the query alone, {effort.name} candidates", effort) for effort in one.by_effort]
    rows += [(searched.name, searched) for searched in _by_filter(one)]
    lines = [f"### {one.definition if one.build_s else 'Without an index'}", "", _HEADER]
    for name, searched in rows:
        passing = f"{searched.passing:,}" if searched.passing else ""
        lines.append(f"| {name} | {passing} | {' | '.join(_figures(searched))} |")
    return "\n".join(lines)


def _by_filter(one: Indexed) -> list[Searched]:
    return ([one.within] if one.within else []) + one.by_filter


def _figures(one: Searched) -> tuple[str, ...]:
    times = (one.p50_ms, one.p99_ms, one.cpu_ms)
    return f"{one.recall:.3f}", *(f"{time_ms:,.1f} ms" for time_ms in times)


def _draw(scale: Scale) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (recall, times) = plt.subplots(2, 1, figsize=(8, 7.5), layout="constrained")
    for one, colour in zip(scale.indexes, _COLOURS, strict=False):
        if one.by_effort:
            points = [(effort.p50_ms, effort.recall) for effort in one.by_effort]
            name = one.definition.replace(f" DIMENSION {scale.dimensions} DIST COSINE TYPE", "")
            recall.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
            for effort, point in zip(one.by_effort, points, strict=True):
                recall.annotate(effort.name, point, textcoords="offset points", xytext=(4, -10))
    recall.axhline(0.95, color="#a0aec0", linestyle=":")
    recall.set_xlabel("milliseconds a search, median")
    recall.set_ylabel("recall@10")
    recall.set_title("by the candidates that the index keeps", loc="left")
    recall.legend(frameon=False)
    shown = [one for one in scale.indexes if one.by_effort][:1]
    for one in shown:
        names = [searched.name for searched in one.by_filter]
        times.barh(names, [searched.p50_ms for searched in one.by_filter], color=_COLOURS[0])
        times.scatter(
            [searched.p99_ms for searched in one.by_filter], names, color=_COLOURS[1], marker="|"
        )
        for searched in one.by_filter:
            times.annotate(
                f"recall {searched.recall:.3f}",
                (searched.p50_ms, searched.name),
                textcoords="offset points",
                xytext=(4, -3),
                fontsize=8,
            )
    times.invert_yaxis()
    times.set_xscale("log")
    times.set_xlabel("milliseconds a search: median, and the 99th percentile as a line")
    times.set_title("by the filter, with the index that is chosen", loc="left")
    for axes in (recall, times):
        axes.grid(alpha=0.3, linewidth=0.5)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})
    plt.close(figure)
