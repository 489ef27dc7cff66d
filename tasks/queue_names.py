"""Celery's names in Redis: known when the database has said which installation this is."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import redis
from celery import Celery

from embed_star.coordination.names import celery_prefix_of
from embed_star.errors import EmbedStarError
from tasks.base import ServiceTask

_OPTION = "global_keyprefix"

_asked: dict[str, Callable[[], str]] = {}
"""What stands in an app's settings until its prefix is known → who knows it."""


def use(app: Celery) -> None:
    """Let the channels of `app` ask for the prefix when they connect."""
    # Of its own: Kombu keeps pools of connections by their options.
    stand_in = f"{uuid4().hex}:"
    _asked[stand_in] = lambda: prefix_of(app)
    _set(app, stand_in)


def prefix_of(app: Celery) -> str:
    """What the names of `app` begin with. Raises redis.ConnectionError while nobody knows.

    Celery then waits as for a Redis that is away.
    """
    try:
        prefix = celery_prefix_of(ServiceTask.services_of(app).redis_prefix)
    except EmbedStarError as error:
        raise redis.ConnectionError(f"the names in Redis are not known: {error}") from None
    if app.conf.broker_transport_options[_OPTION] != prefix:
        _set(app, prefix)  # where Flower looks
    return prefix


def known(prefix: str) -> str:
    """`prefix`, or what it stands for. Raises redis.ConnectionError as `prefix_of` does."""
    ask = _asked.get(prefix)
    return prefix if ask is None else ask()


def _set(app: Celery, prefix: str) -> None:
    options = app.conf.broker_transport_options
    app.conf.broker_transport_options = {**options, _OPTION: prefix}
