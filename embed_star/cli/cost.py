"""What it takes to embed every repo anew, in words: an estimate before it is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_star.services import Services

SAMPLE_ROWS = 500
"""Rows whose texts are looked at: the first ones, in one query."""


def of_all(services: Services) -> str:
    """One line: how many repos and tokens, and the dollars or the time, where they are known.

    Tokens are estimated high (`text.estimate_tokens`). Reads all keys of `repo`.
    """
    from embed_star.embed import text
    from embed_star.providers import catalogue

    repos, settings = services.store.repos, services.settings
    rows = repos.count()
    if not rows:
        return "there are no repos yet: it costs nothing"
    texts = [
        rendered
        for state in repos.page(None, SAMPLE_ROWS).states
        if (rendered := text.render(state.values or (), settings.text_tokens))
    ]
    tokens = rows * sum(map(text.estimate_tokens, texts)) // max(1, len(texts))
    told = f"that is {rows:,} {'repo' if rows == 1 else 'repos'}"
    model = catalogue.find_model(settings.model)
    if settings.embedding_provider == "local" and model:
        return f"{told}: {duration(rows / model.texts_per_core_s)} of one core, and no money"
    told += f", at most some {tokens:,} tokens"
    if dollars := settings.dollars_per_million_tokens * tokens / 1e6:
        told += f": {f'${dollars:,.2f}' if dollars >= 0.01 else 'less than $0.01'}"
    return told


def duration(seconds: float) -> str:
    """`seconds` as one would say it: in minutes or hours."""
    if seconds < 90:
        return "about a minute" if seconds > 30 else "less than half a minute"
    if seconds < 7200:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
