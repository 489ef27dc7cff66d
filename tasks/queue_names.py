"""The prefix of Celery's keys in Redis. The database knows it, so it is asked for late."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import redis
from celery import Celery

from embed_star.coordination.names import celery_prefix_of
from embed_star.errors import EmbedStarError
from tasks.base import state_of

_OPTION = "global_keyprefix"


class UnknownPrefix(str):
    """Stands in an app's settings for its prefix, and can ask for it.

    Its text is unique: Kombu shares pools of connections between apps with equal options.
    """

    ask: Callable[[], str]


def use(app: Celery) -> None:
    """Let the channels of `app` ask for the prefix when they connect."""
    prefix = UnknownPrefix(f"{uuid4().hex}:")
    prefix.ask = lambda: prefix_of(app)
    _set(app, prefix)


def prefix_of(app: Celery) -> str:
    """The prefix of all keys of `app`.

    Raises redis.ConnectionError while the database cannot be asked: Celery then waits as it
    waits for a Redis that is down.
    """
    try:
        prefix = celery_prefix_of(state_of(app).services.redis_prefix)
    except EmbedStarError as error:
        raise redis.ConnectionError(f"the names in Redis are not known: {error}") from None
    if app.conf.broker_transport_options[_OPTION] != prefix:
        _set(app, prefix)  # Flower reads it there
    return prefix


def known(prefix: str) -> str:
    """`prefix`, or the one that it stands for. Raises redis.ConnectionError as `prefix_of`."""
    return prefix.ask() if isinstance(prefix, UnknownPrefix) else prefix


def _set(app: Celery, prefix: str) -> None:
    options = app.conf.broker_transport_options
    app.conf.broker_transport_options = {**options, _OPTION: prefix}
