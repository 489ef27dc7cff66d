"""What harms a worker as a bug would, its loop, a task, or its pool: `worker -I` this."""

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


@control_command()  # type: ignore[untyped-decorator]  # the same
def mistake_children(state: Any) -> dict[str, int]:
    """Tell the pool of each child that it has ended, though it lives."""
    pool = state.consumer.pool._pool
    for child in list(pool._pool):
        pool._event_process_exit(state.consumer.hub, child)
    return {"children": len(pool._pool)}


@shared_task(name="tests.block_task", ignore_result=True)  # type: ignore[untyped-decorator]  # the same
def block_task(seconds: float) -> None:
    """A task that takes so long."""
    time.sleep(seconds)
