"""Beat's schedule. Every task here may run twice or late without harm."""

from __future__ import annotations

from typing import Any

from embed_star.settings import Settings


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`. A task that no worker takes within its period expires."""
    return {
        "sweep-backlog": _every(settings.sweep_interval_s, "embed_star.sweep_backlog"),
        # A task without a due walk (RECONCILE_INTERVAL_S) costs one query.
        "reconcile": _every(15.0, "embed_star.reconcile"),
        # One with the index built costs one query.
        "maintain-index": _every(15.0, "embed_star.maintain_index"),
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}
