"""What a text is embedded for. Many models were trained to be told."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The two sides of a search."""

    DOCUMENT = "document"
    """What is stored and found: the text of a row."""
    QUERY = "query"
    """What somebody asks."""
