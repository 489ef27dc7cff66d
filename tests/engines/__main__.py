"""Real engines on a machine within this one: a shell on Docker, or a command that starts them.

    python -m tests.engines                       # a shell with `docker` and Compose
    python -m tests.engines python -m pytest …    # a command: tests start what they need

What is downloaded and built stays in ENGINES_DIR (default: `.tools/engines`); nothing else does.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.engines import machine
from tests.engines.docker import Docker, folder
from tests.engines.kubernetes import forget

INSIDE = "EMBED_STAR_ENGINES"


def main() -> int:
    """Enter the machine; there, run the command, or a shell on an engine."""
    command = sys.argv[1:]
    if not os.environ.get(INSIDE):
        if why := machine.why_not():
            sys.stderr.write(f"no engines here: {why}\n")
            return 1 if os.environ.get("CI") == "true" else 0
        folder().mkdir(parents=True, exist_ok=True)
        os.environ[INSIDE] = "1"
        try:
            return machine.run(command or [sys.executable, "-m", "tests.engines"])
        finally:
            forget(folder() / "kube")
    with Docker(folder()) as docker:
        docker.make_images()
        shell = os.environ.get("SHELL", "/bin/bash")
        return subprocess.call([shell], env={**os.environ, **docker.environment})


if __name__ == "__main__":
    sys.exit(main())
