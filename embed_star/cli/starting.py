"""What a command does before its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_star.settings import Settings


def load_settings() -> Settings:
    """The settings. From now on, warnings go to stderr: stdout is for what the command prints.

    Raises ConfigError.
    """
    from embed_star import settings
    from embed_star.observe import logging

    loaded = settings.load_settings()
    logging.configure("WARNING", loaded.log_format)
    return loaded
