"""The text of a repo that is embedded, its hash and its length. Pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from embed_star.values import spoken

TEMPLATE_VERSION = 1
"""Increased when `render` makes another text of the same values."""

BYTES_PER_TOKEN = 3
"""UTF-8 bytes that count as one token. It is low on purpose, so that estimates are high: English
has four and more bytes a token; a Chinese character has three bytes, and is about one token."""


def text_version(fields: Sequence[str], max_tokens: int, before: str = "") -> str:
    """A hash of everything that shapes a text. It is part of a space's identity.

    `before` is what the model wants before each text.
    """
    identity = json.dumps([TEMPLATE_VERSION, list(fields), max_tokens, *filter(None, [before])])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def render(values: Sequence[Any], max_tokens: int) -> str:
    """The text of a repo from the values of its text fields, one line for each.

    Takes values of any type. Missing and blank values are left out, lists are joined with
    commas, and NUL characters are dropped. A value of a type that Python does not have becomes
    the text that SurrealDB prints. The text is cut at `max_tokens` estimated tokens, always at
    the same place. It is empty if all values are.
    """
    return cut(whole(values), max_tokens)


def whole(values: Sequence[Any]) -> str:
    """The text before it is cut; see `render`."""
    lines = (_line(value) for value in values)
    return "\n".join(line for line in lines if line)


def cut(text: str, max_tokens: int) -> str:
    """`text`, or as many of its first characters as fit `max_tokens` estimated tokens."""
    encoded = text.encode("utf-8", "replace")
    return encoded[: max_tokens * BYTES_PER_TOKEN].decode("utf-8", "ignore").strip()


def text_hash(text: str) -> str:
    """The hash of `text`: 32 hex digits (BLAKE2b, 128 bits)."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def query_hash(query: str, before: str = "") -> str:
    """The hash of a query that is asked with `before` before it; of no row's text, ever."""
    told = f"{before}\0{query}".encode()
    return hashlib.blake2b(told, digest_size=16, person=b"query").hexdigest()


def estimate_tokens(text: str) -> int:
    """Estimated tokens of `text`; more often too many than too few."""
    return len(text.encode()) // BYTES_PER_TOKEN + 1


def _line(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list | tuple):
        parts = (_line(part) for part in value)
        return ", ".join(part for part in parts if part)
    if isinstance(value, Mapping):
        parts = (_line(part) for part in value.values())
        return ", ".join(part for part in parts if part)
    return spoken(value).replace("\0", "").strip()
