"""What is known of one repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from embed_star.errors import UnknownRepo
from embed_star.models import Key
from embed_star.search.names import distance, read_name
from embed_star.store.tables.failures import Failure
from embed_star.store.tables.names import flat
from embed_star.store.tables.retrieval import Retrieval

_NEAR = 3
"""Most names that an error proposes."""
_MAX_CHARS = 300
"""GitHub's names are shorter, and nothing longer is imported."""
_FAR = 100
"""No name is farther from another."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repo, and how far its embedding is."""

    repo: Mapping[str, Any]
    """The repo's fields; `id` is its record."""
    embedded_at: datetime | None = None
    """When its vector was written; None: it has none."""
    cut: bool = False
    """Whether only the beginning of its text was embedded."""
    passages: int = 0
    """How many parts of its README have a vector."""
    failure: str = ""
    """Why it has no vector, as in `embed-star failures`; empty: it did not fail."""

    def to_dict(self) -> dict[str, Any]:
        """What `embed-star get --json` prints, with the row's own values."""
        embedding = {
            "state": "embedded" if self.embedded_at else "failed" if self.failure else "pending",
            "embedded_at": self.embedded_at,
            "cut": self.cut,
            "passages": self.passages,
            "failure": self.failure or None,
        }
        return {"embedding": embedding, "repo": self.repo}


class FindsFailures(Protocol):
    """`store.tables.failures.Failures`, or in memory."""

    def find(self, keys: Sequence[Key]) -> list[Failure]:
        """The failures of `keys`, in no order."""


class Lookup:
    """Finds repos by their full names."""

    def __init__(self, retrieval: Retrieval, failures: FindsFailures) -> None:
        self._retrieval = retrieval
        self._failures = failures

    def get(self, full_name: str) -> Repository:
        """The repo `full_name` (owner/name); upper and lower case are the same.

        Raises UnknownRepo, with names that are near, when there is none.
        """
        repo = self.repo(full_name)
        key = repo["id"].id
        vector = self._retrieval.vector(key)
        failed = [one.reason for one in self._failures.find([key])]
        return Repository(
            repo,
            embedded_at=vector.embedded_at if vector else None,
            cut=vector.cut if vector else False,
            passages=vector.passages if vector else 0,
            failure=failed[0] if failed else "",
        )

    def repo(self, full_name: str) -> Mapping[str, Any]:
        """The fields of the repo `full_name`. Raises UnknownRepo when there is none."""
        wanted = full_name.replace("\0", "").strip()
        found = self._retrieval.repo(wanted) if 0 < len(wanted) <= _MAX_CHARS else None
        if found is None:
            raise _unknown(wanted, self._near(wanted))
        return found

    def _near(self, full_name: str) -> list[str]:
        """Full names whose name is nearly that one; the nearest first."""
        name = read_name(full_name.rpartition("/")[2])
        if name is None:
            return []
        found = self._retrieval.named(name.names, name.prefixes)
        near = {one.full_name for one in found if name.match(one.full_name)}
        wanted = flat(full_name)
        return sorted(near, key=lambda one: (distance(wanted, flat(one), _FAR), one))[:_NEAR]


def _unknown(full_name: str, near: Sequence[str]) -> UnknownRepo:
    shown = full_name if len(full_name) <= 100 else f"{full_name[:100]}…"
    asked = f"there is no repository {shown!r} in the table repo"
    if "/" not in full_name:
        asked = f"{shown!r} is no name of a repository: owner/name is"
    if near:
        return UnknownRepo(f"{asked}; did you mean {' or '.join(near)}?", near)
    return UnknownRepo(asked)
