"""The figures as tables for the terminal and docs/quality.md, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from bench.quality.corpus import CHECKOUT, Corpus
from bench.quality.figures import METRICS, Figure
from bench.quality.footprint import Footprint
from bench.quality.measuring import ALL, Measured

DOCUMENT = CHECKOUT / "docs" / "quality.md"
PICTURE = CHECKOUT / "docs" / "quality.png"
BEGIN = "<!-- figures: python -m bench quality --write -->"
END = "<!-- end of figures -->"
_COLOURS = (
    *("#2b6cb0", "#90cdf4", "#dd6b20", "#fbd38d"),
    *("#2f855a", "#9ae6b4", "#805ad5", "#d6bcfa"),
)
"""Of a model's two ways, the second one is paler."""


def table(results: Sequence[Measured]) -> Table:
    """A row for each corpus, model, way and kind."""
    columns = ("corpus", "model and way", "kind", "needs", *METRICS)
    shown = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for one in results:
        for kind, by in one.figures.items():
            cells = (f"{by[metric].mean:.3f}" for metric in METRICS)
            shown.add_row(one.corpus, one.name, kind, str(one.needs[kind]), *cells)
    return shown


def write_into_docs(
    corpora: Sequence[Corpus],
    results: Sequence[Measured],
    costs: Mapping[str, Footprint],
) -> None:
    """Put the figures between the markers of the document, and draw the picture beside it."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    parts = [_costs(costs)] + [_figures(corpus, results) for corpus in corpora]
    told = "\n\n".join(parts)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", encoding="utf-8")
    draw(results, PICTURE)


def draw(results: Sequence[Measured], path: Path) -> None:
    """MRR@10 by kind of need, a bar for each model and way, over the first corpus of `results`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [one for one in results if one.corpus == results[0].corpus]
    kinds = list(shown[0].figures)
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    width = 0.8 / len(shown)
    for place, one in enumerate(shown):
        by = [one.figures[kind]["MRR@10"] for kind in kinds]
        means = [one_figure.mean for one_figure in by]
        axes.bar(
            [at + (place - (len(shown) - 1) / 2) * width for at in range(len(kinds))],
            means,
            width * 0.9,
            yerr=[
                [one_figure.mean - one_figure.low for one_figure in by],
                [one_figure.high - one_figure.mean for one_figure in by],
            ],
            error_kw={"linewidth": 0.8, "ecolor": "#4a5568"},
            color=_COLOURS[place % len(_COLOURS)],
            label=one.name,
        )
    labels = [f"{kind}\n{shown[0].needs[kind]} needs" for kind in kinds]
    axes.set_xticks(range(len(kinds)), labels)
    axes.set_ylim(0, 1)
    axes.set_ylabel("MRR@10")
    axes.set_title(f"{shown[0].corpus}: how near the top the first right one is", loc="left")
    axes.grid(axis="y", alpha=0.3, linewidth=0.5)
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _figures(corpus: Corpus, results: Sequence[Measured]) -> str:
    heading = f"Over `{corpus.name}`, {len(corpus.rows):,} rows and {len(corpus.needs)} needs:"
    lines = [heading, "", f"| model and way | kind | needs | {' | '.join(METRICS)} |"]
    lines.append("|---|---|---|" + "---|" * len(METRICS))
    for one in results:
        if one.corpus == corpus.name:
            for kind, by in one.figures.items():
                cells = " | ".join(_cell(by[metric]) for metric in METRICS)
                name = f"**{kind}**" if kind == ALL else kind
                lines.append(f"| {one.name} | {name} | {one.needs[kind]} | {cells} |")
    return "\n".join(lines)


def _cell(one: Figure) -> str:
    return f"{one.mean:.3f} ({one.low:.2f} to {one.high:.2f})"


def _costs(costs: Mapping[str, Footprint]) -> str:
    lines = [
        "| model | first vector after | memory, the process | the model | texts/s on one core |",
        "|---|---|---|---|---|",
    ]
    for model, one in costs.items():
        lines.append(
            f"| {model} | {one.load_s:.1f} s | {one.memory_mb:,.0f} MB | {one.model_mb:,.0f} MB |"
            f" {one.texts_s:,.0f} |"
        )
    return "\n".join(lines)
