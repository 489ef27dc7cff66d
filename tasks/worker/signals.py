"""Celery's signals for one app: they are sent to every receiver in the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, current_app
from celery.utils.dispatch import Signal


def on(signal: Signal, app: Celery, receiver: Callable[..., object]) -> None:
    """Call `receiver` when `signal` is sent by a worker, beat or task of `app`."""

    def receive(sender: Any = None, **given: Any) -> None:
        if _app_of(sender) is app:
            receiver(sender=sender, **given)

    signal.connect(receive, weak=False)


def _app_of(sender: Any) -> Celery:
    """The app of `sender`. A pool's child sends only its host's name; its app is current."""
    own = getattr(sender, "app", None)
    return current_app._get_current_object() if own is None else own
