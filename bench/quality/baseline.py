"""The recorded figures, and what has become worse since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.quality.corpus import Corpus
from bench.quality.measuring import Measured

FILE = Path(__file__).with_name("baseline.json")
CHECKED = ("hit@5", "MRR@10")
TOLERANCE = 0.02
"""How far a figure may fall. A kind is checked where one need is no more than this, too."""
_DIGITS = 6


def record(corpora: Sequence[Corpus], results: Sequence[Measured]) -> None:
    """Make these the figures to compare with. Corpora that are not here keep theirs."""
    recorded = _read() | {
        corpus.name: {
            "identity": corpus.identity,
            "figures": {
                one.name: {
                    kind: {metric: round(by[metric].mean, _DIGITS) for metric in CHECKED}
                    for kind, by in one.figures.items()
                    if one.needs[kind] * TOLERANCE >= 1
                }
                for one in results
                if one.corpus == corpus.name
            },
        }
        for corpus in corpora
    }
    FILE.write_text(json.dumps(recorded, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def complaints(corpora: Sequence[Corpus], results: Sequence[Measured]) -> list[str]:
    """A sentence for each figure that fell too far, or that has nothing to compare with."""
    recorded = _read()
    found = []
    for corpus in corpora:
        before: Mapping[str, Any] = recorded.get(corpus.name, {})
        if before.get("identity") != corpus.identity:
            found.append(
                f"{corpus.name}: its rows, texts or needs are not those of the recorded figures; "
                "look at the new ones, then record them: python -m bench quality --write"
            )
            continue
        now = {one.name: one for one in results if one.corpus == corpus.name}
        for name, kinds in before["figures"].items():
            if name not in now:
                found.append(f"{corpus.name}: {name} was measured before and is no longer")
                continue
            found += _fallen(now[name], kinds)
    return found


def _fallen(one: Measured, recorded: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"{one.corpus}: {metric} of {one.name} ({kind}) fell from {before:.3f} to "
        f"{one.figures[kind][metric].mean:.3f}, more than {TOLERANCE * 100:g} points"
        for kind, by in recorded.items()
        for metric, before in by.items()
        if before - one.figures[kind][metric].mean > TOLERANCE + 10**-_DIGITS
    ]


def _read() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else {}
