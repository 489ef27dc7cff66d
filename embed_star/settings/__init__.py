"""Settings: the only place that reads the environment.

Every setting is a field of `Settings` (`declared`, `model`). All of them are checked together,
so that one message lists every fault (`loading`). `python -m embed_star.settings` prints
docs/settings.md, and .env.example with `--env` (`documentation`).
"""

from __future__ import annotations

from embed_star.settings.loading import RootSettings, load_root_settings, load_settings
from embed_star.settings.model import Settings
from embed_star.settings.retired import RETIRED, misspelt, retired_names
from embed_star.settings.sources import LOCAL_ENV_FILE, SECRETS_DIR

__all__ = [
    "LOCAL_ENV_FILE",
    "RETIRED",
    "SECRETS_DIR",
    "RootSettings",
    "Settings",
    "load_root_settings",
    "load_settings",
    "misspelt",
    "retired_names",
]
