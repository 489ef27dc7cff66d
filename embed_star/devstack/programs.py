"""The processes of embed_star itself in a local stack: what is run, and when it is ready."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import redis

from embed_star.devstack.redis_server import impatient_client
from embed_star.errors import RedisUnavailable

_BINDINGS = "*_kombu.binding.celery.pidbox"
"""Redis key (after any prefix) of the set in which kombu notes the workers that listen."""


@dataclass(frozen=True, slots=True)
class Part:
    """A program of the stack.

    `node` names a Celery worker, which is ready when it listens on Redis for commands: its
    last step before it takes tasks. (Its log would tell only at LOG_LEVEL=INFO.) A part
    without it is ready while it runs.
    """

    argv: tuple[str, ...]
    node: str = ""


MIGRATE = "migrate"
PRODUCER = "producer"
BEAT = "beat"


def standard_parts(*, workers: int) -> dict[str, Part]:
    """The parts by name, in the order in which they are started; `migrate` runs once."""
    command_line = (sys.executable, "-m", "embed_star.cli.main")
    celery = (sys.executable, "-m", "celery", "-A", "embed_star")
    parts = {MIGRATE: Part((*command_line, "migrate"))}
    for number in range(1, workers + 1):
        name = f"worker{number}"
        parts[name] = Part((*celery, "worker", "-n", f"{name}@%h"), node=name)
    parts[BEAT] = Part((*celery, "beat", "--pidfile="))
    parts[PRODUCER] = Part((*command_line, "watch"))
    return parts


def stop_order(names: Mapping[str, object]) -> list[list[str]]:
    """Who stops first, in groups that stop together: nothing is enqueued for a dying worker."""
    workers = [name for name in names if name not in (BEAT, PRODUCER)]
    return [[BEAT] if BEAT in names else [], [PRODUCER] if PRODUCER in names else [], workers]


def forget_workers(redis_url: str) -> None:
    """Remove what killed workers of an earlier run left. Call it before any worker runs.

    Raises RedisUnavailable.
    """
    try:
        with impatient_client(redis_url) as client:
            for key in client.scan_iter(_BINDINGS):
                client.delete(key)
    except redis.RedisError as error:
        raise RedisUnavailable(f"the stack's Redis does not answer: {error}") from None


def listening_workers(redis_url: str) -> set[str]:
    """The `node`s that listen now; none while Redis does not answer."""
    found: set[str] = set()
    try:
        with impatient_client(redis_url) as client:
            for key in client.scan_iter(_BINDINGS):
                # Each member ends in the queue's name: NODE@HOST.celery.pidbox
                members = (bytes(member).decode() for member in client.smembers(key))
                found |= {member.rsplit("\x16", 1)[-1].partition("@")[0] for member in members}
    except redis.RedisError:
        return set()
    return found
