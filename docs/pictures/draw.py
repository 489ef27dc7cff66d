"""Draws the sequence diagrams of the documents: a text in, an SVG out.

    python docs/pictures/draw.py

draws each `*.txt` beside this file as `docs/*.svg`. A line of the text is one of

    title: …                 what a screen reader says first
    about: …                 what it says then
    column app: Your part    a column, of a kind that decides its colour
    == A section             a band across all columns
    app -> db: a message     an arrow to another column; `-->` is an answer
    db: a step               what a column does by itself

A column is named by its kind and, where a kind has several, a number: `work2`. In a text,
`code` is in backticks; `|` begins a new line. Longer lines are wrapped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent

COLOURS = {
    "app": ("#ddeeff", "#54a0e8"),
    "db": ("#f8f0fc", "#a76fc9"),
    "redis": ("#fff0ee", "#d9695c"),
    "work": ("#ebf8ef", "#3f9d5f"),
    "prov": ("#fff6e0", "#c99518"),
}
"""Fill and stroke by kind of column: those of architecture.svg."""

COLUMN, MARGIN, LINE, HEAD, GAP = 182, 16, 17, 56, 12
"""Widths and heights, in pixels."""

STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #24292f; text-anchor: middle }
    .head { font-size: 14px; font-weight: 600 }
    .band { font-size: 14px; font-weight: 600; text-anchor: start }
    .code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px }
    .life { stroke: #afb8c1; stroke-dasharray: 3 4 }
    .flow { fill: none; stroke: #24292f; stroke-width: 1.5; marker-end: url(#tip) }
    .answer { stroke-dasharray: 6 4 }
  """  # noqa: E501  a line a rule


@dataclass
class Picture:
    """A text, read."""

    title: str = ""
    about: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    """From, to and text; of a step, both are the column, and of a section, both are empty."""
    answers: set[int] = field(default_factory=set)
    """Which of the steps are answers."""


def read(text: str) -> Picture:
    """The picture that `text` describes. Raises ValueError for a line of another form."""
    picture = Picture()
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        if line.startswith("== "):
            picture.steps.append(("", "", line[3:]))
        elif found := re.fullmatch(r"(title|about): (.+)", line):
            setattr(picture, found[1], found[2])
        elif found := re.fullmatch(r"column (\w+): (.+)", line):
            picture.columns[found[1]] = found[2]
        elif found := re.fullmatch(r"(\w+)(?: (--?>) (\w+))?: (.+)", line):
            begin, arrow, end = found[1], found[2], found[3] or found[1]
            if not {begin, end} <= picture.columns.keys():
                raise ValueError(f"no such column: {line}")
            if arrow == "-->":
                picture.answers.add(len(picture.steps))
            picture.steps.append((begin, end, found[4]))
        else:
            raise ValueError(f"not understood: {line}")
    return picture


def width_of(text: str) -> float:
    """About how many pixels `text` takes, rather too many than too few."""
    plain, code = "".join(text.split("`")[::2]), "".join(text.split("`")[1::2])
    return sum(_character(one) for one in plain) + 7.3 * len(code)


def _character(one: str) -> float:
    if one in "ijl.,:;'|!()[]ftr /":
        return 5.0
    return 11.5 if one in "mwMW%@" else 9.2 if one.isupper() else 7.8


def wrap(text: str, width: float) -> list[str]:
    """The lines of `text`, none wider than `width` unless a word is; code stays whole."""
    lines = []
    for part in text.split("|"):
        line = ""
        for word in re.findall(r"(?:[^\s`]|`[^`]*`)+", part):
            longer = f"{line} {word}".strip()
            if line and width_of(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def draw(text: str) -> str:
    """The SVG of the picture that `text` describes."""
    picture = read(text)
    at = {
        name: MARGIN + COLUMN * number + COLUMN // 2 for number, name in enumerate(picture.columns)
    }
    width = 2 * MARGIN + COLUMN * len(at)
    shapes, y = [], MARGIN + HEAD + GAP
    for number, (begin, end, words) in enumerate(picture.steps):
        if not begin:
            height, shape = _band(words, width, y)
        elif begin == end:
            height, shape = _box(words, at[begin], COLOURS[begin.rstrip("0123456789")], y)
        else:
            height, shape = _arrow(words, at[begin], at[end], y, answer=number in picture.answers)
        shapes.append(shape)
        y += height + GAP
    body = "\n".join([*_columns(picture, at, y), *shapes])
    height = y + MARGIN
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
height="{height}" role="img" aria-labelledby="title about">
  <title id="title">{escape(picture.title)}</title>
  <desc id="about">{escape(picture.about)}</desc>
  <style>{STYLE}</style>
  <defs><marker id="tip" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="9" markerHeight="9" \
markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#24292f"/></marker>\
</defs>
  <rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10" fill="#fcfdfe" \
stroke="#d0d7de" stroke-width="2"/>
{body}
</svg>
"""


def _columns(picture: Picture, at: dict[str, int], bottom: int) -> list[str]:
    """Each column's head, and the line below it."""
    shapes = []
    for name, words in picture.columns.items():
        fill, stroke = COLOURS[name.rstrip("0123456789")]
        x = at[name]
        shapes.append(f'  <line x1="{x}" y1="{MARGIN}" x2="{x}" y2="{bottom}" class="life"/>')
        shapes.append(_rect(x - COLUMN // 2 + 5, MARGIN, COLUMN - 10, HEAD, fill, stroke))
        shapes.append(_text(wrap(words, COLUMN - 22), x, MARGIN + HEAD / 2, "head"))
    return shapes


def _band(words: str, width: int, y: int) -> tuple[int, str]:
    box = _rect(MARGIN, y + 6, width - 2 * MARGIN, 26, "#eaeef2", "#d0d7de")
    return 34, box + f'\n  <text x="{MARGIN + 12}" y="{y + 24}" class="band">{_spans(words)}</text>'


def _box(words: str, x: int, colours: tuple[str, str], y: int) -> tuple[int, str]:
    lines = wrap(words, COLUMN - 26)
    height = len(lines) * LINE + 12
    box = _rect(x - COLUMN // 2 + 7, y, COLUMN - 14, height, *colours)
    return height, box + "\n" + _text(lines, x, y + height / 2)


def _arrow(words: str, begin: int, end: int, y: int, *, answer: bool) -> tuple[int, str]:
    lines = wrap(words, abs(end - begin) - 20)
    middle, below = (begin + end) / 2, y + len(lines) * LINE + 4
    wide = min(max(map(width_of, lines)) + 8, abs(end - begin) - 4)
    # Behind the words, so that no column's line goes through them.
    behind = (
        f'  <rect x="{middle - wide / 2:g}" y="{y}" width="{wide:g}" '
        f'height="{len(lines) * LINE}" fill="#fcfdfe"/>\n'
    )
    kind = "flow answer" if answer else "flow"
    line = f'\n  <path d="M{begin} {below} H{end}" class="{kind}"/>'
    return below - y + 4, behind + _text(lines, middle, y + len(lines) * LINE / 2) + line


def _rect(x: int, y: int, width: int, height: int, fill: str, stroke: str) -> str:
    return (
        f'  <rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.5"/>'
    )


def _text(lines: list[str], x: float, middle: float, kind: str = "") -> str:
    """`lines` below each other, around `middle`."""
    first = middle - len(lines) * LINE / 2 + 13
    named = f' class="{kind}"' if kind else ""
    return "\n".join(
        f'  <text x="{x:g}" y="{first + LINE * row:g}"{named}>{_spans(line)}</text>'
        for row, line in enumerate(lines)
    )


def _spans(line: str) -> str:
    """`line`, with what is in backticks as code."""
    parts = [escape(part) for part in line.split("`")]
    return "".join(
        f'<tspan class="code">{part}</tspan>' if number % 2 else part
        for number, part in enumerate(parts)
    )


def main() -> None:
    """Draw every text beside this file."""
    for path in HERE.glob("*.txt"):
        drawn = draw(path.read_text(encoding="utf-8"))
        (HERE.parent / path.with_suffix(".svg").name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
