"""Beat's scheduler."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery, beat

from tasks.worker import scheduler


def test_a_stop_in_the_middle_of_publishing_ends_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SystemExit is lost where the publishing fails, for it loses its connection."""

    def publish(self: beat.Scheduler, *, stopped: bool) -> float:
        if stopped:
            self.close()
        return 5.0

    state = SimpleNamespace(beat_heartbeat=SimpleNamespace(beat=lambda: None))
    monkeypatch.setattr(scheduler, "state_of", lambda _app: state)
    monkeypatch.setattr(beat.Scheduler, "tick", publish)
    made = scheduler.Scheduler(app=Celery(set_as_current=False), lazy=True)
    assert made.tick(stopped=False) == 5.0
    with pytest.raises(SystemExit):
        made.tick(stopped=True)
