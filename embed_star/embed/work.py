"""Finds the rows of a batch that need a vector, and their outcomes. Pure functions."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from embed_star.embed import text
from embed_star.embed.bisection import BisectionResult
from embed_star.models import Outcome, Pending, Status
from embed_star.store.tables.repos import RepoState


@dataclass(frozen=True, slots=True)
class Work:
    """One row that needs a vector of this text."""

    row: Pending
    state: RepoState
    text: str
    hash: str
    cut: bool = False

    def outcome(self, status: Status, reason: str = "") -> Outcome:
        """The outcome of the row."""
        return Outcome(
            self.row,
            status,
            self.hash,
            replaces=self.state.stored_hash is not None,
            heals=self.state.recorded,
            reason=reason,
            cut=self.cut,
            name=self.state.name,
        )


def sort(
    rows: Sequence[Pending], states: Sequence[RepoState], max_tokens: int
) -> list[Work | Outcome]:
    """For each of `rows`: its work, or its outcome if it needs no vector."""
    return [_sort_one(row, state, max_tokens) for row, state in zip(rows, states, strict=True)]


def _sort_one(row: Pending, state: RepoState, max_tokens: int) -> Work | Outcome:
    if state.lock_left_s is None:
        return Outcome(row, Status.LOST)
    if state.unreadable:
        known = Status.UNCHANGED if state.failed_hash == "" else Status.FAILED
        return Work(row, state, "", "").outcome(known, "unreadable")
    if state.values is None:
        return Outcome(row, Status.GONE)
    whole = text.whole(state.values)
    rendered = text.cut(whole, max_tokens)
    work = Work(row, state, rendered, text.text_hash(rendered), len(rendered) < len(whole))
    if work.hash == state.settled_hash:
        return work.outcome(Status.UNCHANGED)
    if not rendered:
        return work.outcome(Status.FAILED, "empty_text")
    return work


def outcomes(
    items: Sequence[Work | Outcome],
    cached: Container[str],
    result: BisectionResult,
    *,
    why_waiting: str,
    source: str,
) -> list[Outcome]:
    """The outcome of each of `items`. `source` names the server that made the vectors."""

    def outcome(work: Work) -> Outcome:
        if work.hash in cached:
            return replace(work.outcome(Status.CACHED), source=source)
        if work.hash in result.embedded:
            return replace(work.outcome(Status.EMBEDDED), source=source)
        if work.hash in result.refused:
            return work.outcome(Status.FAILED, result.refused[work.hash])
        return work.outcome(Status.DEFERRED, why_waiting)

    return [one if isinstance(one, Outcome) else outcome(one) for one in items]
