"""What a search found, as scripts see it and as `--json` prints it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Self

from embed_star.store.tables.vectors import Hit
from embed_star.values import spoken


@dataclass(frozen=True, slots=True)
class Result:
    """One repository that was found. What its row does not have is None or empty."""

    full_name: str
    """`owner/name`; the row's key where it has no `full_name`."""
    score: float
    """Cosine similarity in [-1, 1]; only its order means something across models."""
    url: str | None
    description: str | None
    language: str | None
    stars: int | None
    topics: tuple[str, ...]
    repo: Mapping[str, Any] = field(repr=False)
    """All fields of the row, as values of JSON."""

    @classmethod
    def of(cls, hit: Hit) -> Self:
        """`hit`, whatever types its row has."""
        repo = {name: _jsonable(value) for name, value in hit.repo.items()}
        name, stars, topics = (repo.get(one) for one in ("full_name", "stargazers_count", "topics"))
        url = repo.get("html_url")
        return cls(
            full_name=name if isinstance(name, str) and name else spoken(hit.repo["id"].id),
            score=round(hit.score, 6),
            url=url if isinstance(url, str) and url.startswith(("https://", "http://")) else None,
            description=_text(repo.get("description")),
            language=_text(repo.get("language")),
            stars=stars if type(stars) is int else None,
            topics=tuple(filter(None, map(_text, topics))) if isinstance(topics, list) else (),
            repo=repo,
        )

    def to_dict(self) -> dict[str, Any]:
        """What `embed-star search --json` prints of it."""
        return {"score": self.score, "repo": dict(self.repo)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _jsonable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else spoken(value)
