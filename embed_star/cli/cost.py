"""What it takes to embed every repo anew, in words: an estimate before it is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embed_star.services import Services
    from embed_star.store.tables.repos import RepoState

SAMPLE_ROWS = 500
"""Rows whose texts are looked at: the first ones, in one query."""

SAMPLE_READMES = 50
"""READMEs among them that are looked at."""

_TEXT_TOKENS = 30
"""Of a text that `texts_per_core_s` is about."""


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
    states = repos.page(None, SAMPLE_ROWS).states
    texts = [
        rendered
        for state in states
        if (rendered := text.render(state.values or (), settings.text_tokens))
    ]
    of_passages = rows * _readme_tokens(services, states) // max(1, len(states))
    tokens = rows * sum(map(text.estimate_tokens, texts)) // max(1, len(texts)) + of_passages
    told = f"that is {rows:,} {'repo' if rows == 1 else 'repos'}"
    model = catalogue.find_model(settings.model)
    if settings.embedding_provider == "local" and model:
        seconds = (rows + of_passages / _TEXT_TOKENS) / model.texts_per_core_s
        return f"{told}: {duration(seconds)} of one core, and no money"
    told += f", at most some {tokens:,} tokens"
    if dollars := settings.dollars_per_million_tokens * tokens / 1e6:
        told += f": {f'${dollars:,.2f}' if dollars >= 0.01 else 'less than $0.01'}"
    return told


def of_readmes(services: Services) -> str:
    """One line: how many tokens the passages of all READMEs have; empty if there are none."""
    repos = services.store.repos
    states = repos.page(None, SAMPLE_ROWS).states
    tokens = repos.count() * _readme_tokens(services, states) // max(1, len(states))
    return f"READMEs are embedded in passages: at most some {tokens:,} tokens" if tokens else ""


def _readme_tokens(services: Services, states: Sequence[RepoState]) -> int:
    """The estimated tokens of the passages of these rows."""
    from embed_star.embed import text
    from embed_star.embed.passages import split

    with_readme = [one.key for one in states if one.readme_hash]
    looked_at = with_readme[:SAMPLE_READMES]
    if not looked_at:
        return 0
    most = services.settings.text_tokens
    tokens = sum(
        text.estimate_tokens(passage.text)
        for one in services.store.passages.load([(key, 0) for key in looked_at])
        for passage in split(one.readme or "", most)
    )
    return tokens * len(with_readme) // len(looked_at)


def duration(seconds: float) -> str:
    """`seconds` as one would say it: in minutes or hours."""
    if seconds < 90:
        return "about a minute" if seconds > 30 else "less than half a minute"
    if seconds < 7200:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
