"""Finds the rows of a batch that need a vector, and their outcomes. Pure functions."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from embed_star.embed import text
from embed_star.embed.bisection import BisectionResult
from embed_star.embed.passages import Passage, readme_hash, row_hash, split
from embed_star.models import Outcome, Pending, Status
from embed_star.store.tables.repos import RepoState


@dataclass(frozen=True, slots=True)
class Work:
    """One row that needs a vector of this text."""

    row: Pending
    state: RepoState
    text: str
    hash: str
    """Of all that is embedded of the row."""
    own_hash: str = ""
    """Of its own text."""
    cut: bool = False
    passages: tuple[Passage, ...] = ()

    @property
    def texts(self) -> dict[str, str]:
        """All that is embedded of the row, by hash."""
        return {self.own_hash: self.text, **{one.hash: one.text for one in self.passages}}

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
            own_hash="" if self.own_hash == self.hash else self.own_hash,
            old_passages=self.state.stored_passages,
        )

    def with_readme(self, readme: str | None, max_tokens: int) -> Work:
        """With the passages of `readme`; None, if the database cannot give it out."""
        if readme is None:
            return self
        of_both = row_hash(self.own_hash, readme_hash(readme))
        return replace(self, hash=of_both, passages=tuple(split(readme, max_tokens)))


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
        return Outcome(row, Status.GONE, old_passages=state.stored_passages)
    whole = text.whole(state.values)
    rendered = text.cut(whole, max_tokens)
    own_hash = text.text_hash(rendered)
    of_both = row_hash(own_hash, state.readme_hash)
    work = Work(row, state, rendered, of_both, own_hash, len(rendered) < len(whole))
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
    """The outcome of each of `items`. `source` names the server that made the vectors.

    A row waits until all of its texts have vectors. One whose own text is refused is set aside.
    A passage that is refused is left out, and the row is kept: it is found by all the rest.
    """

    def outcome(work: Work) -> Outcome:
        if work.own_hash in result.refused:
            return work.outcome(Status.FAILED, result.refused[work.own_hash])
        kept = [one for one in work.texts if one not in result.refused]
        if any(one not in cached and one not in result.embedded for one in kept):
            return work.outcome(Status.DEFERRED, why_waiting)
        paid = any(one in result.embedded for one in kept)
        done = work.outcome(Status.EMBEDDED if paid else Status.CACHED)
        passages = tuple(one.hash for one in work.passages if one.hash not in result.refused)
        left_out = len(work.passages) - len(passages)
        return replace(done, source=source, passages=passages, left_out=left_out)

    return [one if isinstance(one, Outcome) else outcome(one) for one in items]
