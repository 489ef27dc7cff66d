"""embed_star: keeps a current embedding beside every GitHub repository in SurrealDB.

For scripts: `from embed_star import Client` (or `AsyncClient`); docs/api.md shows a session.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embed_star.api import AsyncClient, Client, Details, Enqueued, Result
    from embed_star.errors import EmbedStarError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Details", "EmbedStarError", "Enqueued", "Result"]


def __getattr__(name: str) -> Any:
    """Import what scripts use when it is asked for: commands and workers need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    part = "errors" if name == "EmbedStarError" else "api"
    return getattr(importlib.import_module(f"{__name__}.{part}"), name)
