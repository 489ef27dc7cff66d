"""The local stack: every process of embed_star on one machine, without Docker.

`LocalStack` (stack.py) is the whole; `LocalServers` (servers.py) only Redis and SurrealDB.
Workers and beat are started as programs: Celery is not imported here.
"""

from __future__ import annotations

from pathlib import Path

DATA_DIR = Path(".embed-star")
"""Where `up` keeps its data, and where the settings look for its `local.env`."""
