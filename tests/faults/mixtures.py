"""Random mixtures of faults. A seed says what the user writes and what breaks when.

When is counted in rows that the user has written, not in seconds, so that a seed does the
same on a slow machine. `schedule` is pure; `mixture` makes a case of it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.fault import Fault, Step, Steps
from tests.faults.scene import Process, Scene

ROWS = 200
"""That the user writes in a mixture."""
STRIKES = (2, 5)
"""How many faults, at least and at most."""
LASTS_ROWS = (5, 70)
WORKERS = 2


class Strike(NamedTuple):
    """A fault that hits when the user has written `at` rows and ends at `until`."""

    at: int
    until: int
    kind: str
    victim: int
    """Which process, where it is one."""


def schedule(seed: int) -> tuple[Strike, ...]:
    """The faults of a seed, in the order in which they hit."""
    chance = random.Random(f"schedule {seed}")  # noqa: S311 - to be repeated
    strikes = []
    for _ in range(chance.randint(*STRIKES)):
        at = chance.randrange(10, ROWS - LASTS_ROWS[1])
        until = at + chance.randint(*LASTS_ROWS)
        strikes.append(Strike(at, until, chance.choice(sorted(KINDS)), chance.randrange(WORKERS)))
    return tuple(sorted(strikes))


def mixture(seed: int) -> Fault:
    """The case of a seed."""
    strikes = schedule(seed)

    def steps(scene: Scene) -> Steps:
        return _steps(scene, strikes)

    steps.__name__ = f"seed{seed:04}"
    return Fault(
        number=0,
        name=", ".join(f"{one.kind} at {one.at} to {one.until}" for one in strikes),
        steps=steps,
        rows=0,
    )


def _steps(scene: Scene, strikes: tuple[Strike, ...]) -> Steps:
    moments: list[tuple[int, int, Strike]] = []
    for number, strike in enumerate(strikes):
        moments += [(strike.at, number, strike), (strike.until, number, strike)]
    ends: dict[int, Callable[[], None]] = {}
    started = False
    for rows, number, strike in sorted(moments, key=lambda one: one[:2]):
        scene.user.stroll(rows)
        if number in ends:
            ends.pop(number)()
            scene.struck(hits=0)
        else:
            scene.struck()
            ends[number] = KINDS[strike.kind](scene, strike)
            if not started:
                started = True
                yield Step.BROKEN
    scene.user.stroll(ROWS)
    yield Step.MENDED


Kind = Callable[[Scene, Strike], Callable[[], None]]
"""Breaks something, and says how it is mended."""


def _nothing() -> None:
    """It is over by itself."""


def _kill_worker(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.kill(_victim(scene.workers, strike))
    return lambda: _ignore(scene.worker())


def _kill_producer(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.kill(*scene.producers)
    return lambda: _ignore(scene.producer())


def _pause_worker(scene: Scene, strike: Strike) -> Callable[[], None]:
    paused = _victim(scene.workers, strike)
    scene.pause(paused)
    return lambda: scene.resume(paused)


def _link(server: str, what: str) -> Kind:
    def broken(scene: Scene, strike: Strike) -> Callable[[], None]:
        links = scene.links(server)
        for link in links:
            if what == "cut":
                link.cut()
            elif what == "silence":
                link.silence()
            else:
                link.delay(0.3)
        return lambda: [link.mend() for link in links] and None

    return broken


def _flush(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.redis(lambda client: client.flushall())
    return _nothing


def _restart_redis(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.servers.stop_server("redis", grace_s=0)
    if strike.victim:
        shutil.rmtree(scene.servers.data.folder("redis") / "appendonlydir")
    scene.servers.start_server("redis")
    return _nothing


def _restart_surrealdb(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.servers.stop_server("surrealdb", grace_s=0)
    scene.servers.start_server("surrealdb")
    scene.lab.services.store.database.pool.recycle()  # our own connections broke, too
    return _nothing


def _lose_message(scene: Scene, strike: Strike) -> Callable[[], None]:
    scene.redis(lambda client: client.lpop(scene.queue))
    return _nothing


def _repeat_messages(scene: Scene, strike: Strike) -> Callable[[], None]:
    messages = scene.queued()
    if messages:
        scene.redis(lambda client: client.rpush(scene.queue, *messages))
    return _nothing


def _script(usual: dict[str, object], **bad: object) -> Kind:
    def broken(scene: Scene, strike: Strike) -> Callable[[], None]:
        scene.provider.script(**bad)
        return lambda: scene.provider.script(**usual)

    return broken


KINDS: dict[str, Kind] = {
    "a worker is killed": _kill_worker,
    "the producer is killed": _kill_producer,
    "a worker is paused": _pause_worker,
    "Redis is cut off": _link("redis", "cut"),
    "Redis is silent": _link("redis", "silence"),
    "Redis is slow": _link("redis", "delay"),
    "SurrealDB is cut off": _link("surrealdb", "cut"),
    "SurrealDB is silent": _link("surrealdb", "silence"),
    "SurrealDB is slow": _link("surrealdb", "delay"),
    "the provider is cut off": _link("provider", "cut"),
    "Redis is flushed": _flush,
    "Redis restarts": _restart_redis,
    "SurrealDB restarts": _restart_surrealdb,
    "a message is lost": _lose_message,
    "messages are repeated": _repeat_messages,
    "503": _script({"fail_next": 0}, fail_next=-1, status=503),
    "429": _script({"fail_next": 0}, fail_next=1, status=429, retry_after="1"),
    "the key is refused": _script({"fail_next": 0}, fail_next=-1, status=401),
    "answers break off": _script({"fault": None}, fault="truncated"),
    "answers drip": _script({"fault": None}, fault="drip"),
    "answers are HTML": _script({"fault": None}, fault="html"),
    "answers are shuffled": _script({"shuffle": False}, shuffle=True),
}


def _victim(processes: list[Process], strike: Strike) -> Process:
    return processes[strike.victim % len(processes)]


def _ignore(_: object) -> None:
    """What was started is in the scene."""
