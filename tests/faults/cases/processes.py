"""Processes that are killed, paused, or there twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.fault import BATCH_ROWS, IN_FLIGHT, WORKER_CALLS, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually

LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
LOCK_TTL_S = 13.0
"""Of `PROMPT_RECOVERY`: what nobody holds any more is free after it."""


@fault(
    1,
    "a pool child is killed in the middle of a call",
    again=BATCH_ROWS,
    hits=1,
    options=("-P", "processes", "-c", "2"),
)
def pool_child_killed(scene: Scene) -> Steps:
    scene.under_way(calls=3)
    os.kill(scene.children(scene.workers[0])[0], signal.SIGKILL)
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED
    assert len(scene.workers) == 2


@fault(
    1,
    "the same, and its rows' locks last long: the message comes back at once",
    again=BATCH_ROWS,
    hits=1,
    within_s=20.0,
    options=("-P", "processes", "-c", "2"),
    env={"LOCK_TTL_S": "60"},
)
def pool_child_killed_under_long_locks(scene: Scene) -> Steps:
    return pool_child_killed.steps(scene)


@fault(2, "a whole worker is killed", again=IN_FLIGHT, hits=1)
def worker_killed(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    scene.kill(scene.workers[0])
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(3, "workers are killed after paying, before the write")
def killed_before_write(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for link in scene.links("surrealdb", scene.workers):
        link.silence()
    eventually(lambda: scene.provider.stats()["concurrent"] == 0, "the provider has answered")
    eventually(lambda: scene.cached() >= scene.paid(), "what was paid for is in the cache")
    scene.kill(*scene.workers)
    scene.usual()
    yield Step.BROKEN
    scene.worker()
    yield Step.MENDED


@fault(4, "a worker is killed after the write, before its acknowledgement", workers=1)
def killed_before_ack(scene: Scene) -> Steps:
    scene.lab.await_quiet()
    keys = scene.user.insert(BATCH_ROWS)
    scene.lab.await_asked()
    (link,) = scene.links("surrealdb", scene.workers)
    link.delay(2.0)
    eventually(lambda: scene.lab.embedded(keys) == len(keys), "the vectors are written")
    scene.kill(scene.workers[0])
    yield Step.BROKEN
    scene.worker()
    yield Step.MENDED


@fault(34, "two producers and two beats", producers=2, beats=2, rows=80)
def twice(scene: Scene) -> Steps:
    yield Step.BROKEN
    yield Step.MENDED
    eventually(lambda: scene.logged("swept") >= 2, "beat's sweeps have run")


@fault(35, "the leading producer is killed", producers=2)
def leader_killed(scene: Scene) -> Steps:
    leader, follower = scene.producers
    if not scene.logged("leading", [leader]):
        leader, follower = follower, leader
    scene.await_logged("leading", [leader])
    scene.kill(leader)
    killed = time.monotonic()
    yield Step.BROKEN
    scene.await_logged("leading", [follower])
    # Its lease, and the third of it in which the other looks again.
    lease_s = scene.tenant.settings.leader_lease_s
    assert time.monotonic() - killed < lease_s * 4 / 3 + 5.0
    yield Step.MENDED


@fault(37, "the holder of locks is paused past their end", again=IN_FLIGHT, hits=1)
def holder_paused(scene: Scene) -> Steps:
    """It has calls under way, and rows loaded that wait for a place."""
    scene.under_way(calls=2 * WORKER_CALLS)
    paused = scene.workers[0]
    scene.pause(paused)
    began = time.monotonic()
    scene.usual()
    keys = scene.user.keys[-2 * BATCH_ROWS :]
    for key in keys:
        scene.user.edit(key)
    yield Step.BROKEN
    eventually(
        lambda: time.monotonic() - began > LOCK_TTL_S + 1, "the locks are over", LOCK_TTL_S * 2
    )
    eventually(lambda: not scene.lab.pending(keys), "the other worker has done them", 40.0)
    scene.resume(paused)
    yield Step.MENDED


@fault(
    37,
    "a write is under way for longer than the locks last",
    workers=1,
    env={"DB_TIMEOUT_S": "30"},
)
def write_delayed(scene: Scene) -> Steps:
    """The transaction leaves the worker in time, and arrives when the rows are another's."""
    scene.lab.await_quiet()
    late = scene.workers[0]
    scene.provider.script(latency_ms=1000)
    keys = scene.user.insert(BATCH_ROWS)
    scene.lab.await_asked()
    late.links.surrealdb.delay(LOCK_TTL_S + 3, "upstream")
    stored = scene.logged("run_stored", [late])
    scene.usual()
    for key in keys:
        scene.user.edit(key)
    scene.worker()
    yield Step.BROKEN
    eventually(lambda: scene.logged("run_stored", [late]) > stored, "the late write is over", 60.0)
    late.links.surrealdb.mend()
    yield Step.MENDED


@fault(45, "everything is down when they start", workers=0, producers=0)
def all_down_at_start(scene: Scene) -> Steps:
    """Down for the processes, that is: every link refuses."""
    started = scene.start_unconnected("worker", "producer", "beat")
    yield Step.BROKEN
    eventually(
        lambda: all(one.child.output().strip() for one in started), "each says something", 30.0
    )
    for process in started:
        assert not process.child.ended.is_set(), process.child.output()
        for link in process.links.all():
            link.mend()
    yield Step.MENDED


@fault(
    36,
    "the clocks of two processes are an hour off, before and behind",
    workers=0,
    producers=0,
    rows=60,
)
def clocks_off(scene: Scene) -> Steps:
    """Locks end by the servers' clocks, deadlines by monotonic ones."""
    scene.worker(**skewed("-1h"))
    scene.worker(**skewed("+1h"), TZ="America/New_York")
    ahead = scene.producer(**skewed("+1h"))
    scene.lab.await_quiet()
    yield Step.BROKEN
    scene.kill(ahead)
    scene.producer(**skewed("-1h"))
    yield Step.MENDED


def skewed(offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock is off by this."""
    return {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
