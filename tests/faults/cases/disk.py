"""A disk is full: for Redis' append-only file, for SurrealDB's store, for the logs.

What stands for it is a limit on the size of files (RLIMIT_FSIZE), set on the running process:
every write to a file fails from then on, and none to a socket. It needs no rights and no
file system of its own. The servers are started with SIGXFSZ ignored, so that they get the
error that a full disk gives, where they would be killed otherwise.
"""

from __future__ import annotations

import resource

from embed_star.errors import EmbedStarError
from tests.faults.fault import IN_FLIGHT, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually


@fault(
    41,
    "the disk of Redis' append-only file is full",
    again=2 * IN_FLIGHT,
    hits=1,
    says=("producer_waits",),
)
def disk_full_for_redis(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    pid = scene.servers.processes["redis"].pid
    _fill_disk(pid)
    scene.usual()
    yield Step.BROKEN
    scene.await_logged("producer_waits")
    _make_room(pid)
    yield Step.MENDED
    assert scene.answering_workers() == 2


@fault(41, "the disk of SurrealDB is full", again=2 * IN_FLIGHT, hits=1, blocks_user=True)
def disk_full_for_surrealdb(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    pid = scene.servers.processes["surrealdb"].pid
    _fill_disk(pid)
    scene.usual()
    yield Step.BROKEN
    eventually(lambda: not _takes_writes(scene), "it takes no writes", 30.0)
    _make_room(pid)
    if not _takes_writes(scene):  # its own affair: it may want to be started again
        scene.servers.stop_server("surrealdb")
        scene.servers.start_server("surrealdb")
    yield Step.MENDED


@fault(41, "the disk of the logs is full")
def disk_full_for_logs(scene: Scene) -> Steps:
    pids = [one.child.pid for one in scene.processes]
    for pid in pids:
        _fill_disk(pid)
    yield Step.BROKEN
    for pid in pids:
        _make_room(pid)
    yield Step.MENDED
    assert scene.answering_workers() == 2


def _fill_disk(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))


def _make_room(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def _takes_writes(scene: Scene) -> bool:
    try:
        scene.lab.query("CREATE disk_probe RETURN NONE; DELETE disk_probe RETURN NONE")
    except EmbedStarError:
        return False
    return True
