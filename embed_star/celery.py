"""The app that `celery -A embed_star` finds."""

from __future__ import annotations

import sys

from embed_star.errors import ConfigError
from embed_star.settings import load_settings
from tasks.app import create_app

try:
    app = create_app(load_settings())
except ConfigError as error:
    # Celery would bury the message in a usage text.
    sys.exit(f"embed-star: {error}")
