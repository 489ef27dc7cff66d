"""The Celery app for `celery -A embed_star`. Importing it reads the settings."""

from __future__ import annotations

import sys

from embed_star.errors import ConfigError
from embed_star.start import heed_sigterm, uncollected

heed_sigterm()
try:
    with uncollected():
        from embed_star.settings import load_settings
        from tasks.app import create_app

        app = create_app(load_settings())
except ConfigError as error:
    # Celery would print the message after a page of usage.
    sys.exit(f"embed-star: {error}")
