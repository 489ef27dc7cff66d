"""What is known of a repository, as scripts see it and as `--json` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from embed_star.search import Hit, Repository
from embed_star.values import jsonable, spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A row of `repo`. What it does not have, or has as another type, is None or empty."""

    full_name: str
    """`owner/name`; the row's key where it has no `full_name`."""
    url: str | None
    description: str | None
    language: str | None
    stars: int | None
    topics: tuple[str, ...]
    embedded_at: datetime | None
    """When its vector was written; None: it has none."""
    _json: Mapping[str, Any] = field(repr=False)

    @property
    def repo(self) -> Mapping[str, Any]:
        """All fields of the row, as values of JSON."""
        repo: Mapping[str, Any] = self._json["repo"]
        return repo

    def to_dict(self) -> dict[str, Any]:
        """What the command prints with `--json`; a search with `--explain`, too."""
        return dict(self._json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Facts):
    """One repository that was found."""

    score: float
    """Cosine similarity in [-1, 1]; across models only its order means something."""
    reason: str
    """Why it was found, for people."""
    passage: str | None = None
    """What its README says where it was found by that, without the heading."""
    heading: str | None = None
    """The headings of that passage, from the title on."""

    @classmethod
    def of(cls, hit: Hit, embedded_at: datetime | None = None) -> Self:
        """`hit`, whatever types its row has."""
        found = jsonable(hit.to_dict())
        return cls(
            score=found["score"],
            reason=hit.reason,
            passage=hit.passage.body if hit.passage else None,
            heading=(hit.passage.heading or None) if hit.passage else None,
            embedded_at=embedded_at,
            _json=found,
            **_facts(hit.repo, found["repo"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Details(Facts):
    """One repository that was asked for by its name, and how far its embedding is."""

    state: str
    """`embedded`, `pending` or `failed`."""
    cut: bool
    """Whether only the beginning of its text was embedded."""
    passages: int
    """How many parts of its README have a vector."""
    failure: str
    """The code of why it could not be embedded, as in `embed-star failures`; else empty."""

    @classmethod
    def of(cls, found: Repository) -> Self:
        """`found`, whatever types its row has."""
        printed = jsonable(found.to_dict())
        return cls(
            state=printed["embedding"]["state"],
            cut=found.cut,
            passages=found.passages,
            failure=found.failure,
            embedded_at=found.embedded_at,
            _json=printed,
            **_facts(found.repo, printed["repo"]),
        )


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of the names that were to be enqueued, as they were given."""

    enqueued: tuple[str, ...]
    unknown: tuple[str, ...]
    """Those that no row has."""

    def to_dict(self) -> dict[str, Any]:
        """Both, as lists."""
        return {"enqueued": list(self.enqueued), "unknown": list(self.unknown)}


def _facts(row: Mapping[str, Any], repo: Mapping[str, Any]) -> dict[str, Any]:
    """What people want to know of `row`, whose JSON is `repo`."""
    stars, topics, url = (repo.get(one) for one in ("stargazers_count", "topics", "html_url"))
    return {
        "full_name": _text(repo.get("full_name")) or spoken(row["id"].id),
        "url": url if isinstance(url, str) and url.startswith(("https://", "http://")) else None,
        "description": _text(repo.get("description")),
        "language": _text(repo.get("language")),
        "stars": stars if type(stars) is int else None,
        "topics": tuple(filter(None, map(_text, topics))) if isinstance(topics, list) else (),
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
