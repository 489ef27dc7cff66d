"""The facts about providers and models that ship with embed_star: `catalogue.toml`, typed.

A new fact or a new model changes that file only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

from embed_star.providers.roles import Role

PREFIX_TOKENS = 16
"""Left free for the prefix of a stored text; the longest one in the catalogue has 7."""

FIRST_CALLS = 3
"""Calls at once of a process before it knows its provider, where their number adapts."""

MOST_CALLS = 16
"""The most that it comes to. At 300 ms a call, of 100 rows each, they are 5,300 rows a second,
and one process can neither load nor write so many."""

_TAG = re.compile(r"(:[\w.-]+)?$")
_VERSION = re.compile(r"-v\d+(\.\d+)?$")


@dataclass(frozen=True, slots=True)
class Model:
    """One embedding model."""

    name: str
    dimensions: int
    """Length of its vectors."""
    shorter: tuple[int, ...] = ()
    """The other lengths that it has, for a model in the process."""
    shortens: bool = False
    """Whether a request may name a shorter length; a server may take some lengths only."""
    context_tokens: int = 0
    """How much of a text it reads; 0: no known limit."""
    texts_per_core_s: int = 0
    """About how many texts of 30 tokens a core of today embeds in a second, for a model in the
    process."""
    dollars_per_million_tokens: float = 0.0
    """List price; 0: none, or not by the token."""
    priced_on: date | None = None
    """When that price was looked up."""
    before_query: str = ""
    """The prefix of a query that its authors ask for."""
    before_document: str = ""
    """The prefix of a stored text that its authors ask for. It is part of the space's identity."""


@dataclass(frozen=True, slots=True)
class BreakerDefaults:
    """When the provider's circuit breaker opens and closes, unless a setting says otherwise."""

    failures: int
    """Failures in a row that open it."""
    open_s: float
    """Pause until a probe."""
    successes_to_close: int
    """Probes in a row that close it."""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider, as EMBEDDING_PROVIDER names it."""

    name: str
    models: Mapping[str, Model]
    batch_rows: int
    """Most rows of a call, unless a setting says otherwise."""
    calls: int = 0
    """Calls at once of a process, unless a setting says otherwise; 0: as many as go well."""
    address: str = ""
    """Where it is, without a slash at its end: the module's path is appended. Empty for a model in
    the process."""
    default_model: str = ""
    """The model if the settings name none; empty: they must name one."""
    requests_per_minute: int = 0
    """The usual rate limit of an account, at `address`; 0: none."""
    breaker: BreakerDefaults | None = None
    """None for a model in this process, which cannot be down."""


def _read(text: str) -> dict[str, ProviderFacts]:
    return {name: _provider(name, table) for name, table in tomllib.loads(text).items()}


def _provider(name: str, table: dict[str, Any]) -> ProviderFacts:
    models = {
        model: Model(model, **{**facts, "shorter": tuple(facts.get("shorter", ()))})
        for model, facts in table.pop("models").items()
    }
    breaker = table.pop("breaker", None)
    return ProviderFacts(
        name, models, breaker=BreakerDefaults(**breaker) if breaker else None, **table
    )


PROVIDERS: dict[str, ProviderFacts] = _read(
    files("embed_star.providers").joinpath("catalogue.toml").read_text(encoding="utf-8")
)
"""By name, in the order of the file."""


def bare_name(model: str) -> str:
    """The model's name without owner, tag and capitals: `BAAI/bge-m3:567m` is `bge-m3`."""
    return _TAG.sub("", model.lower().rpartition("/")[2], count=1)


def find_model(model: str) -> Model | None:
    """The known model that people write as `model`, with or without owner, tag and version."""
    name = bare_name(model)
    known = {one.name: one for facts in PROVIDERS.values() for one in facts.models.values()}
    return known.get(name) or known.get(_VERSION.sub("", name))


def prefixes(model: str) -> Mapping[Role, str]:
    """What stands before each text for `model`, by role; nothing for a model that is not known."""
    known = find_model(model)
    return {
        Role.DOCUMENT: known.before_document if known else "",
        Role.QUERY: known.before_query if known else "",
    }


def text_tokens(model: str, text_max_tokens: int) -> int:
    """Estimated tokens at which a text is cut: the setting, or less where the model reads less."""
    known = find_model(model)
    reads = known.context_tokens if known else 0
    if known and reads and known.before_document:
        reads -= PREFIX_TOKENS
    return min(text_max_tokens, reads) if reads else text_max_tokens


def shortened_from(model: str) -> int | None:
    """The full length of a model that shortens its vectors when asked; None for any other."""
    known = find_model(model)
    return known.dimensions if known and known.shortens else None
