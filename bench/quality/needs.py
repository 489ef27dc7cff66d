"""Labelled needs: what somebody asks, and every repository that would be a right answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embed_star.search import Filters

KINDS = {
    "described": "a need in everyday words, without the name",
    "name": "a name, roughly remembered",
    "typo": "a name with a typing error",
    "language": "a need in another language than English",
    "filtered": "a need, with a filter for language or stars",
}
"""Every kind of need, and what it is."""

GRADES = (1, 2)
"""2 is exactly what was meant, 1 would do, too."""


@dataclass(frozen=True, slots=True)
class Need:
    """One query and its right answers."""

    query: str
    kind: str
    answers: Mapping[str, int]
    """Full name → grade. What is not named here is wrong."""
    filters: Filters = field(default_factory=Filters)


def read(path: Path) -> list[Need]:
    """The needs of a file of JSON Lines. Raises ValueError for one that measures nothing."""
    return [_need(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _need(fields: dict[str, Any]) -> Need:
    need = Need(**{**fields, "filters": Filters(**fields.get("filters", {}))})
    if need.kind not in KINDS:
        raise ValueError(f"{need.query!r} is of no known kind: {need.kind}")
    if not set(need.answers.values()) <= set(GRADES) or 2 not in need.answers.values():
        raise ValueError(f"{need.query!r} needs an answer of grade 2, and none but 1 and 2")
    return need
