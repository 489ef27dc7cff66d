"""The registry of embedding providers.

Importing this imports none of them; a provider's module is loaded when it is created.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_star.providers.base import Provider
    from embed_star.settings import Settings


def _from(module: str, factory: str) -> Callable[[Settings], Provider]:
    def create(settings: Settings) -> Provider:
        loaded = import_module(f"embed_star.providers.{module}")
        provider: Provider = getattr(loaded, factory)(settings)
        return provider

    return create


PROVIDERS: dict[str, Callable[[Settings], Provider]] = {
    "ollama": _from("ollama", "ollama"),
    "openai": _from("openai_compatible", "openai"),
    "together": _from("openai_compatible", "together"),
    "local": _from("local", "local"),
}


def create_provider(settings: Settings) -> Provider:
    """The provider that EMBEDDING_PROVIDER names, ready to call and not yet connected.

    Raises ConfigError when its settings cannot work: a refused address, a missing
    package, a model or dimensions that it does not have.
    """
    return PROVIDERS[settings.embedding_provider](settings)
