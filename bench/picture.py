"""The picture of a load test: what was written, how fresh it was, what memory it took."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from bench.stack import quantile

mpl.use("Agg")

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from bench.load import Result

_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#c53030", "#4a5568", "#b7791f")
_BIN_S = 2


def draw(result: Result, path: Path) -> None:
    """Write the picture, a PNG, to `path`."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (rate, fresh, memory) = plt.subplots(
        3, 1, figsize=(8, 8), sharex=True, height_ratios=(2, 3, 3), layout="constrained"
    )
    figure.suptitle(
        f"{result.rate:g} rows/s for {result.duration_s:g} s, provider {result.latency_ms:g} ms "
        f"in the median: p50 {result.quantile_s(0.5):.2f} s, p99 {result.quantile_s(0.99):.2f} s",
        fontsize=10,
    )
    _rates(rate, result)
    _freshness(fresh, result)
    _memory(memory, result)
    memory.set_xlabel("seconds since the start")
    for axes in (rate, fresh, memory):
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.axvline(result.duration_s, color="#a0aec0", linestyle=":", linewidth=1)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _rates(axes: Any, result: Result) -> None:
    written, readable = defaultdict(int), defaultdict(int)
    for one in result.fresh:
        written[one.written_s // _BIN_S] += 1
        readable[(one.written_s + one.took_s) // _BIN_S] += 1
    last = int(max([*written, *readable], default=0))
    for label, counts, colour in (
        ("rows written", written, _COLOURS[1]),
        ("vectors readable", readable, _COLOURS[0]),
    ):
        xs = [(bin_ + 0.5) * _BIN_S for bin_ in range(last + 1)]
        axes.plot(xs, [counts[n] / _BIN_S for n in range(last + 1)], color=colour, label=label)
    axes.set_ylabel("rows/s")
    axes.set_title("rows that need a vector", loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
    _legend(axes)


def _freshness(axes: Any, result: Result) -> None:
    bins: dict[int, list[float]] = defaultdict(list)
    for one in result.fresh:
        bins[int(one.written_s // _BIN_S)].append(one.took_s)
    axes.scatter(
        [one.written_s for one in result.fresh],
        [one.took_s for one in result.fresh],
        s=3,
        alpha=0.25,
        color=_COLOURS[0],
        linewidths=0,
    )
    xs = [(n + 0.5) * _BIN_S for n in sorted(bins)]
    for q, colour in ((0.5, _COLOURS[2]), (0.95, _COLOURS[1]), (0.99, _COLOURS[4])):
        ys = [quantile(bins[n], q) for n in sorted(bins)]
        axes.plot(xs, ys, color=colour, linewidth=1.3, label=f"p{q * 100:.0f}")
    axes.set_ylabel("freshness, s")
    axes.set_title("a dot: one row, from written to its vector readable", loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
    _legend(axes)


def _memory(axes: Any, result: Result) -> None:
    xs = [one.at_s for one in result.samples]
    names = list(result.samples[0].rss_mb) if result.samples else []
    for name, colour in zip(names, _COLOURS, strict=False):
        ys = [one.rss_mb.get(name, float("nan")) for one in result.samples]
        axes.plot(xs, ys, color=colour, linewidth=1.5)
        axes.annotate(
            name,
            (xs[-1], ys[-1]),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )
    axes.set_ylabel("resident memory, MB")
    axes.set_title(
        "processes: the database and Redis hold ever more vectors, a worker its last 4,096",
        loc="left",
        fontsize=9,
    )
    axes.set_ylim(bottom=0)


def _legend(axes: Any) -> None:
    """Above the axes, where it hides nothing."""
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
