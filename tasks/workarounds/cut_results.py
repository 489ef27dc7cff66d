"""Reads a result of a child process whole, once it has begun to come.

Upstream: with `-P processes`, Celery 5.7.0 reads of a task's result what has come, and goes on
when there is more. If the connection to Redis is lost in between, it forgets what it has read.
This result and all later ones of that child are lost then, and with them its slot.
Issue: none known.
Delete when: `celery.worker.loops.asynloop` keeps, or finishes, what its pool has read in part
before it resets the hub; the cases of tests/celery/test_slots.py that are out of memory then pass
without this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

from celery import signals

_PATIENCE_S = 1.0
"""A child that writes is at it: the rest comes at once, unless the machine stands still."""


def apply() -> None:
    """Use the patient reader in the workers of this process. Twice changes nothing."""
    signals.worker_init.connect(use_whole_results, weak=False, dispatch_uid="embed_star.results")


def use_whole_results(**_: Any) -> None:
    """Replace the reader of Celery's process pools."""
    # Imported here: only a worker needs it.
    from celery.concurrency import asynpool

    class WholeResults(asynpool.ResultHandler):  # type: ignore[misc]  # Celery has no types
        """Waits for the rest of a message, where Celery would turn to something else."""

        def _recv_message(
            self, add_reader: Any, fd: int, callback: Any, **given: Any
        ) -> Iterator[None]:
            for _ in super()._recv_message(add_reader, fd, callback, **given):
                if not wait([fd], _PATIENCE_S):
                    yield

    if asynpool.AsynPool.ResultHandler is asynpool.ResultHandler:
        asynpool.AsynPool.ResultHandler = WholeResults
