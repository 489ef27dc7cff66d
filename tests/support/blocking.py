"""A remote command that stops a worker's consumer loop, as a bug would: `worker -I` this."""

from __future__ import annotations

import time
from typing import Any

from celery.worker.control import control_command


@control_command(args=[("seconds", float)])  # type: ignore[untyped-decorator]  # Celery has no types
def block_loop(state: Any, seconds: float) -> None:
    """Block the loop for so long."""
    del state
    time.sleep(seconds)
