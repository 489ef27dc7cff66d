"""What the tools answer: data for programs, and text that a model can cite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from embed_star.api.results import Details, Facts, Result
from embed_star.embed.failure_reasons import reason_of
from embed_star.observe.terminal import shown
from embed_star.status import Report

MOST_CHARACTERS = 500
"""Of a description or another text of a row: what is longer is cut, and ends with an ellipsis."""

MOST_TOPICS = 20


class Repo(BaseModel):
    """One repository."""

    full_name: str = Field(description="owner/name")
    url: str | None
    description: str | None = Field(description="its owner's words, cut when they are long")
    language: str | None
    stars: int | None
    topics: list[str]
    embedded_at: str | None = Field(description="when its vector was written, UTC")

    def as_text(self, *about: str) -> str:
        """Three lines at most: what it is, where it is, what it says of itself."""
        facts = list(about)
        facts += [self.language] if self.language else []
        facts += [f"{self.stars:,} stars"] if self.stars is not None else []
        facts += [f"vector of {self.embedded_at[:10]}"] if self.embedded_at else []
        lines = [f"{self.full_name} ({', '.join(facts)})" if facts else self.full_name]
        lines += [f"  {self.url}"] if self.url else []
        lines += [f"  {self.description}"] if self.description else []
        return "\n".join(lines)


class Found(Repo):
    """One repository that was found."""

    score: float = Field(description="cosine similarity, from -1 to 1")
    reason: str = Field(description="why it was found")
    passage: str | None = Field(description="what its README says there, if it was found by that")


class Hits(BaseModel):
    """The repositories that were found, best first."""

    hits: list[Found]


class Known(Repo):
    """One repository that was asked for."""

    cut: bool = Field(description="whether only the beginning of its text was embedded")
    passages: int = Field(description="parts of its README that can be found by meaning")
    failure: str | None = Field(description="why it cannot be found by meaning")


class State(BaseModel):
    """How far the embedding is. What cannot be read is null; `problems` says why."""

    model: str
    embedded: int = Field(description="rows that have a vector")
    passages: int = Field(description="parts of their READMEs that have one, too")
    pending: int = Field(description="changes that are not embedded yet")
    failed: int = Field(description="rows that cannot be embedded")
    in_flight: int | None
    provider_phase: str | None = Field(description="closed: it is asked; open: it is paused")
    problems: list[str]


def of_results(results: Sequence[Result]) -> CallToolResult:
    """The answer of a search."""
    hits = [
        Found(score=one.score, reason=one.reason, passage=_passage(one), **_facts(one))
        for one in results
    ]
    lines = [hit.as_text(f"score {hit.score:.3f}", f"found by {hit.reason}") for hit in hits]
    lines = [
        f"{line}\n  README: {hit.passage}" if hit.passage else line
        for line, hit in zip(lines, hits, strict=True)
    ]
    return _answer("\n".join(lines) or "no repository fits", Hits(hits=hits))


def of_details(details: Details) -> CallToolResult:
    """The answer of `get`."""
    failure = reason_of(details.failure).meaning if details.failure else None
    known = Known(cut=details.cut, passages=details.passages, failure=failure, **_facts(details))
    text = known.as_text()
    if failure:
        text += f"\n  it could not be embedded: {failure}"
    elif known.embedded_at is None:
        text += "\n  it is not embedded yet"
    return _answer(text, known)


def of_report(report: Report) -> CallToolResult:
    """The answer of `status`."""
    state = State(
        model=f"{report.provider} {report.model}, {report.dimensions} dimensions",
        embedded=report.embedded,
        passages=report.passages,
        pending=sum(report.pending.values()),
        failed=sum(report.failed.values()),
        in_flight=report.in_flight,
        provider_phase=report.provider_phase,
        problems=report.problems,
    )
    of_readmes = f", and {state.passages:,} passages of READMEs" if state.passages else ""
    lines = [
        f"{state.embedded:,} repositories{of_readmes} are embedded by {state.model}",
        f"{state.pending:,} changes are pending, {state.failed:,} rows have failed",
    ]
    if state.provider_phase not in (None, "closed"):
        lines.append("the provider is paused")
    return _answer("\n".join([*lines, *state.problems]), state)


def _answer(text: str, data: BaseModel) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=data.model_dump(mode="json"),
    )


def _facts(facts: Facts) -> dict[str, Any]:
    """The fields of a Repo: texts are bounded, and without control characters."""
    at = facts.embedded_at
    return {
        "full_name": _bounded(facts.full_name),
        "url": facts.url and _bounded(facts.url),
        "description": facts.description and _bounded(facts.description),
        "language": facts.language and _bounded(facts.language),
        "stars": facts.stars,
        "topics": [_bounded(topic) for topic in facts.topics[:MOST_TOPICS]],
        "embedded_at": at and at.isoformat(timespec="seconds"),
    }


def _passage(found: Result) -> str | None:
    said = ": ".join(filter(None, [found.heading, found.passage]))
    return _bounded(said) if said else None


def _bounded(text: str) -> str:
    plain = shown(" ".join(text.split()))
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"
