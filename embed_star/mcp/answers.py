"""What the tools answer: data for programs, and text that a model can cite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from embed_star.api.results import Result
from embed_star.observe.terminal import shown
from embed_star.status import Report

MOST_CHARACTERS = 500
"""Of a description or another text of a row: what is longer is cut, and ends with an ellipsis."""

MOST_TOPICS = 20


class Found(BaseModel):
    """One repository."""

    full_name: str = Field(description="owner/name")
    url: str | None
    score: float = Field(description="cosine similarity, from -1 to 1")
    description: str | None = Field(description="its owner's words, cut when they are long")
    language: str | None
    stars: int | None
    topics: list[str]

    @classmethod
    def of(cls, result: Result) -> Self:
        """`result`, with its texts bounded and free of control characters."""
        return cls(
            full_name=_bounded(result.full_name),
            url=result.url and _bounded(result.url),
            score=result.score,
            description=result.description and _bounded(result.description),
            language=result.language and _bounded(result.language),
            stars=result.stars,
            topics=[_bounded(topic) for topic in result.topics[:MOST_TOPICS]],
        )

    def as_text(self) -> str:
        """Two lines that say what it is, where it is and why it was found."""
        facts = [f"score {self.score:.3f}"]
        facts += [self.language] if self.language else []
        facts += [f"{self.stars:,} stars"] if self.stars is not None else []
        lines = [f"{self.full_name} ({', '.join(facts)})"]
        lines += [f"  {self.url}"] if self.url else []
        lines += [f"  {self.description}"] if self.description else []
        return "\n".join(lines)


class Hits(BaseModel):
    """The repositories that a search found, best first."""

    hits: list[Found]


class State(BaseModel):
    """How far the embedding is. What cannot be read is null; `problems` says why."""

    model: str
    embedded: int = Field(description="rows that have a vector")
    pending: int = Field(description="changes that are not embedded yet")
    failed: int = Field(description="rows that cannot be embedded")
    in_flight: int | None
    provider_phase: str | None = Field(description="closed: it is asked; open: it is paused")
    problems: list[str]


def of_hits(results: Sequence[Result]) -> CallToolResult:
    """The answer of a search."""
    hits = Hits(hits=[Found.of(result) for result in results])
    text = "\n".join(hit.as_text() for hit in hits.hits)
    return _answer(text or "no repository fits", hits)


def of_report(report: Report) -> CallToolResult:
    """The answer of `status`."""
    state = State(
        model=f"{report.provider} {report.model}, {report.dimensions} dimensions",
        embedded=report.embedded,
        pending=sum(report.pending.values()),
        failed=sum(report.failed.values()),
        in_flight=report.in_flight,
        provider_phase=report.provider_phase,
        problems=report.problems,
    )
    lines = [
        f"{state.embedded:,} repositories are embedded by {state.model}",
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


def _bounded(text: str) -> str:
    plain = shown(" ".join(text.split()))
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"
