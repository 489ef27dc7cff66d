"""Beat's scheduler, which tells that it moves."""

from __future__ import annotations

from typing import Any, ClassVar

from celery import beat

from embed_star.observe.health import Heartbeat


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Keeps no file: what beat starts may as well start anew."""

    heartbeat: ClassVar[Heartbeat] = Heartbeat(float("inf"))

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        self.heartbeat.beat()
        return super().tick(*args, **kwargs)

    def _ensure_connected(self) -> Any:
        """Waits for Redis for as long as it is away: not a loop that is stuck."""
        self.heartbeat.rest()
        connection = super()._ensure_connected()
        self.heartbeat.beat()
        return connection
