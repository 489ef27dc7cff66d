"""The tools: what an assistant may ask. All of them only read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated

import structlog
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import Field

from embed_star.api import Client, FilterOptions
from embed_star.errors import EmbedStarError, place_of
from embed_star.mcp import answers
from embed_star.observe.terminal import shown

log = structlog.get_logger(__name__)

MOST_HITS = 50
"""Answers of one search: more of them only fill a model's context."""

MOST_QUERY_CHARACTERS = 2_000
"""Of a query: a model reads 256 to 8,192 tokens of it, and a described need has some 10."""

Query = Annotated[
    str,
    Field(
        max_length=MOST_QUERY_CHARACTERS,
        description="What is needed, in plain words: a queue for background jobs in Python",
    ),
]
Name = Annotated[str, Field(max_length=200, description="owner/name, in upper or lower case")]
Count = Annotated[int, Field(ge=1, le=MOST_HITS, description="How many repositories")]
Language = Annotated[str | None, Field(max_length=100, description="Main language, as GitHub's")]
Stars = Annotated[int | None, Field(ge=0, le=10**9, description="At least as many stars")]

Topic = Annotated[str | None, Field(max_length=100, description="One of its topics, as GitHub's")]
Owner = Annotated[str | None, Field(max_length=100, description="Who owns it")]
Day = Annotated[date | None, Field(description="Pushed to on this day or later, as 2026-01-31")]
Archived = Annotated[bool | None, Field(description="Only archived ones, or only others")]


class Tools:
    """The tools over one client. Each call runs on a thread of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[Callable[..., CallToolResult]]:
        """Every tool; its name and description are the function's."""
        return [self.search, self.similar, self.get, self.status]

    def search(
        self,
        query: Query,
        k: Count = 10,
        language: Language = None,
        min_stars: Stars = None,
        topic: Topic = None,
        owner: Owner = None,
        pushed_since: Day = None,
        archived: Archived = None,
    ) -> Annotated[CallToolResult, answers.Hits]:
        """Find repositories by what they are for. Best first, each with its address."""
        filters: FilterOptions = {
            "language": language,
            "min_stars": min_stars,
            "topic": topic,
            "owner": owner,
            "pushed_since": pushed_since,
            "archived": archived,
        }
        return _answered(lambda: answers.of_results(self._client.search(query, k, **filters)))

    def similar(
        self,
        full_name: Name,
        k: Count = 10,
        language: Language = None,
        min_stars: Stars = None,
        topic: Topic = None,
        owner: Owner = None,
        pushed_since: Day = None,
        archived: Archived = None,
    ) -> Annotated[CallToolResult, answers.Hits]:
        """Find repositories that are like a known one, for instance what could replace it."""
        filters: FilterOptions = {
            "language": language,
            "min_stars": min_stars,
            "topic": topic,
            "owner": owner,
            "pushed_since": pushed_since,
            "archived": archived,
        }
        return _answered(lambda: answers.of_results(self._client.similar(full_name, k, **filters)))

    def get(self, full_name: Name) -> Annotated[CallToolResult, answers.Known]:
        """Say what is known of one repository."""
        return _answered(lambda: answers.of_details(self._client.get(full_name)))

    def status(self) -> Annotated[CallToolResult, answers.State]:
        """Say how many repositories can be found, and how many are still to be embedded."""
        return _answered(lambda: answers.of_report(self._client.status()))


def _answered(ask: Callable[[], CallToolResult]) -> CallToolResult:
    """What `ask` answers. Raises ToolError, in one sentence without a secret, for any error."""
    try:
        return ask()
    except EmbedStarError as error:
        raise ToolError(shown(str(error))) from None
    except Exception as error:  # noqa: BLE001 - one call fails, the server goes on
        # Neither the message nor a traceback is told or logged: both may quote a row.
        log.error("unexpected_error", error=type(error).__name__, place=place_of(error))
        raise ToolError("an unexpected error; the log of `embed-star mcp` says where") from None
