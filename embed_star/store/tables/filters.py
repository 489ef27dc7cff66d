"""Conditions that a repo must meet to be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that a repo must meet."""

    language: str | None = None
    """Main language; upper and lower case are the same."""
    min_stars: int | None = None
    topic: str | None = None
    """One of its topics; those of GitHub are in lower case."""
    owner: str | None = None
    """Who owns it; upper and lower case are the same."""
    pushed_since: date | None = None
    """Pushed to on this day or later. What says nothing of a push does not pass."""
    archived: bool | None = None
    """Whether it is archived. What says nothing of that is not."""


NO_FILTERS = Filters()


def conditions(filters: Filters) -> tuple[list[str], dict[str, Any]]:
    """What a repo must meet, in SurrealQL, and the values."""
    found: dict[str, Any] = {}
    if filters.language is not None:
        found["language"] = filters.language.lower()
    if filters.min_stars is not None:
        found["min_stars"] = filters.min_stars
    if filters.topic is not None:
        found["topic"] = filters.topic.lower()
    if filters.owner is not None:
        found["owner"] = filters.owner.lower() + "/"
        found["after_owner"] = filters.owner.lower() + _AFTER_SLASH
    if filters.pushed_since is not None:
        found["pushed_since"] = filters.pushed_since.isoformat()
    if filters.archived is not None:
        found["archived"] = filters.archived
    return [_CONDITIONS[name] for name in found], found


_AFTER_SLASH = chr(ord("/") + 1)

_CONDITIONS = {
    "language": "string::lowercase(<string>(repo.language ?? '')) = $language",
    "min_stars": "repo.stargazers_count >= $min_stars",
    "topic": "(repo.topics ?? []) CONTAINS $topic",
    "owner": "string::lowercase(<string>(repo.full_name ?? '')) >= $owner",
    "after_owner": "string::lowercase(<string>(repo.full_name ?? '')) < $after_owner",
    # A text as GitHub has it, or a datetime: both begin with the date.
    "pushed_since": "<string>(repo.pushed_at ?? '') >= $pushed_since",
    "archived": "(repo.archived ?? false) = $archived",
}
"""They take fields of any type: a row with an odd one must not fail the search of all."""


def of_repo(conditions: Sequence[str]) -> list[str]:
    """The conditions of a vector's repo as those of the repo itself."""
    return [condition.replace("repo.", "") for condition in conditions]


def where_all(found: Sequence[str]) -> str:
    """The clause, with a space before it; empty without conditions."""
    return f" WHERE {' AND '.join(found)}" if found else ""
