"""Beat's scheduler, with a heartbeat for its liveness probe."""

from __future__ import annotations

from typing import Any

from celery import beat

from tasks.base import state_of


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Keeps no file: after a restart all schedules simply start anew."""

    _is_closed = False

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        state_of(self.app).beat_heartbeat.beat()
        interval = super().tick(*args, **kwargs)
        if self._is_closed:
            # SIGTERM came while a task was published. Celery's handler closed the connection under
            # it and raised SystemExit, and the error of the connection took its place.
            raise SystemExit
        return interval

    def close(self) -> None:
        """Celery calls it when beat is to end."""
        self._is_closed = True
        super().close()

    def _ensure_connected(self) -> Any:
        """Waits for as long as Redis is down; the heartbeat rests meanwhile."""
        state = state_of(self.app)
        state.beat_heartbeat.rest()
        connection = super()._ensure_connected()
        state.beat_heartbeat.beat()
        return connection
