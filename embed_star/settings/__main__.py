"""`python -m embed_star.settings`: docs/settings.md on standard output; `--env`: .env.example."""

from __future__ import annotations

import sys

from embed_star.settings.documentation import env_example, page

sys.stdout.write(env_example() if sys.argv[1:] == ["--env"] else page())
