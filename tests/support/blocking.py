"""What stops a worker as a bug would, its consumer's loop or a task: `worker -I` this."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task
from celery.worker.control import control_command


@control_command(args=[("seconds", float)])  # type: ignore[untyped-decorator]  # Celery has no types
def block_loop(state: Any, seconds: float) -> None:
    """Block the loop for so long."""
    del state
    time.sleep(seconds)


@shared_task(name="tests.block_task", ignore_result=True)  # type: ignore[untyped-decorator]  # the same
def block_task(seconds: float) -> None:
    """A task that takes so long."""
    time.sleep(seconds)
