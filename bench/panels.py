"""Panels of a Grafana dashboard drawn with matplotlib, in Grafana's manner."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

CANVAS, PANEL, INK, FAINT, GRID = "#111217", "#181b1f", "#d5d6df", "#9fa1ad", "#2a2d34"
PALETTE = [
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff9830",
    "#ff7383",
    "#56a1f5",
    "#ca95e5",
    "#37872d",
    "#e0b400",
    "#1f60c4",
]
COLOURS = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
}
Series = tuple[str, NDArray[np.float64], NDArray[np.float64]]
"""Legend, seconds since the run began, values; NaN where there is none."""

NOTHING = "nothing"
"""Marks a line that is 0 all the time."""

COLUMNS = 24
WIDTH_IN, UNIT_IN, GAP_IN = 16.0, 0.30, 0.05
LETTER_IN = 0.066
"""About the width of a letter of a legend."""


def draw(panels: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw `panels`, whose targets have their `series`, into a PNG."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "text.color": INK})
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(WIDTH_IN, height * UNIT_IN), facecolor=CANVAS)
    span = _span(panels)
    for panel in panels:
        _draw_one(figure, panel, height, span)
    figure.savefig(file, dpi=100)


def _span(panels: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """When the first of all series begins and the last one ends: the time axis of every panel."""
    values = [
        one["values"]
        for panel in panels
        for target in panel.get("targets", ())
        for one in target["series"]
    ]
    return min(one[0][0] for one in values), max(one[-1][0] for one in values)


def _draw_one(
    figure: Figure, panel: Mapping[str, Any], height: int, span: tuple[float, float]
) -> None:
    at = panel["gridPos"]
    cell_in = WIDTH_IN / COLUMNS
    x, w = at["x"] * cell_in + GAP_IN, at["w"] * cell_in - 2 * GAP_IN
    h = at["h"] * UNIT_IN - 2 * GAP_IN
    y = (height - at["y"] - at["h"]) * UNIT_IN + GAP_IN
    tall = height * UNIT_IN
    if panel["type"] == "row":
        place = (x + 0.08, y + h / 2)
        figure.text(
            place[0] / WIDTH_IN, place[1] / tall, f"⌄  {panel['title']}",
            size=11, weight="bold", va="center",
        )  # fmt: skip
        return
    box = FancyBboxPatch(
        (x / WIDTH_IN, y / tall), w / WIDTH_IN, h / tall,
        boxstyle="square,pad=0", facecolor=PANEL, edgecolor=GRID, linewidth=0.8,
        transform=figure.transFigure, zorder=-1,
    )  # fmt: skip
    figure.add_artist(box)
    figure.text(
        (x + 0.12) / WIDTH_IN, (y + h - 0.10) / tall, panel["title"], size=9, va="top",
    )  # fmt: skip
    if panel["type"] == "stat":
        _draw_stat(figure, panel, ((x + w / 2) / WIDTH_IN, (y + h * 0.40) / tall))
        return
    left, bottom, top = 0.62, 0.52, 0.36
    if panel["type"] == "state-timeline":
        left = 0.95
    rectangle = (
        (x + left) / WIDTH_IN,
        (y + bottom) / tall,
        (w - left - 0.15) / WIDTH_IN,
        (h - bottom - top) / tall,
    )
    axes = figure.add_axes(rectangle, facecolor=PANEL)
    _style(axes)
    series = _series(panel, span[0])
    (_draw_states if panel["type"] == "state-timeline" else _draw_lines)(axes, panel, series)
    axes.set_xlim(0, span[1] - span[0])


def _style(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=FAINT, length=0, labelsize=7.5)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{int(s) // 60}:{int(s) % 60:02}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 3, 6]))


def _series(panel: Mapping[str, Any], begin: float = 0.0) -> list[Series]:
    found = []
    for target in panel["targets"]:
        for one in target["series"]:
            legend = re.sub(
                r"\{\{(\w+)\}\}",
                lambda m, labels=one["metric"]: labels.get(m[1], ""),
                target["legendFormat"],
            )
            legend = re.sub(r"embed[-_]star[-._]|scripted-|127\.0\.0\.1", "", legend).strip()
            at = np.array([point[0] for point in one["values"]]) - begin
            found.append((legend, at, np.array([float(point[1]) for point in one["values"]])))
    return found


def _fixed_colours(panel: Mapping[str, Any]) -> dict[str, str]:
    return {
        one["matcher"]["options"]: COLOURS[one["properties"][0]["value"]["fixedColor"]]
        for one in panel["fieldConfig"]["overrides"]
    }


def _draw_lines(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    fixed, free = _fixed_colours(panel), iter(PALETTE * 3)
    floor: NDArray[np.float64] | None = None
    grid = max((at for _, at, _ in series), key=len, default=np.array([0.0]))
    highest = 0.0
    for legend, at, values in series:
        gid = "" if np.any(values > 0) else NOTHING
        colour = fixed.get(legend) or next(one for one in free if one not in fixed.values())
        if stacked:
            values, at = np.nan_to_num(np.interp(grid, at, values, left=0, right=0)), grid
            base = np.zeros_like(grid) if floor is None else floor
            floor = base + values
            axes.fill_between(grid, base, floor, color=colour, alpha=0.35, linewidth=0)
            values = floor
        else:
            axes.fill_between(at, 0, values, color=colour, alpha=0.08, linewidth=0)
        axes.plot(at, values, color=colour, linewidth=1.2, label=legend, gid=gid)
        finite = values[np.isfinite(values)]
        highest = max(highest, finite.max() if finite.size else 0.0)
    top = defaults.get("max") or (highest * 1.12 or 1.0)
    for step in defaults["thresholds"]["steps"][1:]:
        if step["value"] < top * 1.6:
            top = max(top, step["value"] * 1.12)
            axes.axhline(step["value"], color=COLOURS[step["color"]], linewidth=1, linestyle="--")
    axes.set_ylim(0, top * 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    word = UNITS[defaults["unit"]]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: word(value)))
    _legend(axes)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color=FAINT)
        return
    place = axes.get_position()
    below = -0.16 / (place.height * axes.get_figure(root=True).get_figheight())
    room_in = place.width * WIDTH_IN + 0.3
    # What is there comes before what is 0 all the time, and what does not fit is counted.
    order = sorted(range(len(labels)), key=lambda n: handles[n].get_gid() == NOTHING)
    handles, labels = [handles[n] for n in order], [labels[n] for n in order]
    shown = list(accumulate(len(one) * LETTER_IN + 0.3 for one in labels))
    fitting = max(1, sum(used <= room_in for used in shown))
    if fitting < len(labels):
        fitting = max(1, sum(used <= room_in - 0.6 for used in shown))
        handles = [*handles[:fitting], Line2D([], [], linewidth=0)]
        labels = [*labels[:fitting], f"+ {len(labels) - fitting} more"]
    axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(-0.02, below),
        ncol=len(labels), frameon=False, labelcolor=FAINT, fontsize=7.5,
        handlelength=1.0, columnspacing=1.0, handletextpad=0.4, borderaxespad=0.2,
    )  # fmt: skip


def _draw_states(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series]) -> None:
    mapped = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, (_, at, values) in enumerate(series):
        ends = [n for n in range(1, len(values)) if values[n] != values[n - 1]]
        for start, end in zip([0, *ends], [*ends, len(values) - 1], strict=True):
            state = mapped[str(int(values[start]))]
            width = at[end] - at[start]
            bar = Rectangle((at[start], row - 0.36), width, 0.72, color=COLOURS[state["color"]])
            axes.add_patch(bar)
            if width > at[-1] * 0.08:
                middle = at[start] + width / 2
                axes.text(middle, row, state["text"], ha="center", va="center", color=CANVAS)
    axes.set_yticks(range(len(series)), [legend.replace(" ", "\n") for legend, _, _ in series])
    axes.set_ylim(-0.6, len(series) - 0.4)
    axes.grid(visible=False)
    for state in mapped.values():
        axes.plot([], [], color=COLOURS[state["color"]], linewidth=5, label=state["text"])
    _legend(axes)


def _draw_stat(figure: Figure, panel: Mapping[str, Any], at: tuple[float, float]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    series = _series(panel)
    value = series[0][2][-1] if series else math.nan
    colour = COLOURS["green"]
    for step in defaults["thresholds"]["steps"][1:]:
        if value >= step["value"]:
            colour = COLOURS[step["color"]]
    figure.text(
        *at, UNITS[defaults["unit"]](value), size=22, ha="center", va="center", color=colour
    )


def _short(value: float) -> str:
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    if value >= 120:
        return f"{value / 60:.3g} min"
    return f"{value * 1000:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"


UNITS: Mapping[str, Callable[[float], str]] = {
    "short": _short,
    "s": _seconds,
    "percentunit": lambda value: f"{value:.3g}" if math.isnan(value) else f"{100 * value:.3g}%",
    "cps": lambda value: f"{_short(value)}/s",
    "reqps": lambda value: f"{_short(value)}/s",
    "currencyUSD": lambda value: f"${value:.2g}",
    "bytes": lambda value: f"{value / 2**20:.0f} MiB",
}
