"""The programs of embed_star in a local stack: their commands, and when they are ready."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import redis

from embed_star.devstack.redis_server import impatient_client
from embed_star.errors import RedisUnavailable

_BINDINGS = "*_kombu.binding.celery.pidbox"
"""Pattern of the Redis key, after any prefix, of kombu's set of listening workers."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the stack.

    `node` is the name of a Celery worker. The worker is ready when it listens on Redis for
    commands, which is its last step before it takes tasks. (Its log says so only at
    LOG_LEVEL=INFO.) A program without `node` is ready while it runs.
    """

    argv: tuple[str, ...]
    node: str = ""


MIGRATE = "migrate"
PRODUCER = "producer"
BEAT = "beat"


def standard_programs(*, workers: int) -> dict[str, Program]:
    """The programs by name, in the order of their start. `migrate` runs once."""
    command_line = (sys.executable, "-m", "embed_star.cli.main")
    celery = (sys.executable, "-m", "celery", "-A", "embed_star")
    programs = {MIGRATE: Program((*command_line, "migrate"))}
    for number in range(1, workers + 1):
        name = f"worker{number}"
        programs[name] = Program((*celery, "worker", "-n", f"{name}@%h"), node=name)
    programs[BEAT] = Program((*celery, "beat", "--pidfile="))
    programs[PRODUCER] = Program((*command_line, "watch"))
    return programs


def stop_order(names: Mapping[str, object]) -> list[list[str]]:
    """Groups of programs that stop together, in order: first those that enqueue, then workers."""
    workers = [name for name in names if name not in (BEAT, PRODUCER)]
    return [[BEAT] if BEAT in names else [], [PRODUCER] if PRODUCER in names else [], workers]


def forget_workers(redis_url: str) -> None:
    """Remove the entries of workers that were killed. Call it before any worker runs.

    Raises RedisUnavailable.
    """
    try:
        with impatient_client(redis_url) as client:
            for key in client.scan_iter(_BINDINGS):
                client.delete(key)
    except redis.RedisError as error:
        raise RedisUnavailable(f"the stack's Redis does not answer: {error}") from None


def listening_workers(redis_url: str) -> set[str]:
    """The `node`s of the listening workers; empty while Redis does not answer."""
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
