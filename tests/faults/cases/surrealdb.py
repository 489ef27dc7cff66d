"""SurrealDB is killed, slow or silent, refuses a session, or conflicts with us."""

from __future__ import annotations

import threading
from contextlib import suppress

from embed_star.errors import EmbedStarError
from embed_star.models import Lane
from embed_star.store.client.connection import Connection
from tests.faults.fault import BATCH_ROWS, IN_FLIGHT, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually

FLEET_IN_FLIGHT = 2 * IN_FLIGHT


@fault(15, "SurrealDB is killed during bulk writes", rows=100, edits=False, blocks_user=True)
def killed_during_writes(scene: Scene) -> Steps:
    scene.provider.script(latency_ms=0)
    keys = scene.user.insert(400)
    eventually(lambda: scene.lab.embedded(keys) > 0, "the first are written")
    scene.servers.stop_server("surrealdb", grace_s=0)
    yield Step.BROKEN
    for link in scene.links("surrealdb"):
        link.cut()
    scene.servers.start_server("surrealdb")
    # Whole transactions or nothing: who has a vector is no longer pending as the event announced
    # it, nor locked. A reconcile may have announced it once more: that is the other lane.
    embedded, pending, locked = scene.lab.query(
        f"SELECT VALUE record::id(id) FROM {scene.lab.services.space.table};"
        f"SELECT VALUE record::id(repo) FROM embedding_outbox "
        f"WHERE record::id(id)[0] = {Lane.FRESH:d};"
        "SELECT VALUE record::id(id) FROM embedding_lock"
    )
    assert embedded
    assert not set(embedded) & set(pending)
    assert not set(embedded) & set(locked)
    for link in scene.links("surrealdb"):
        link.mend()
    yield Step.MENDED


@fault(16, "SurrealDB is half-open: traffic stops, no connection closes")
def half_open(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for link in scene.links("surrealdb"):
        link.silence()
    scene.usual()
    yield Step.BROKEN
    scene.await_logged("producer_waits")
    for link in scene.links("surrealdb"):
        link.mend()
    yield Step.MENDED


@fault(16, "SurrealDB answers a second late", env={"DB_POOL_SIZE": "3"})
def slow(scene: Scene) -> Steps:
    for link in scene.links("surrealdb"):
        link.delay(1.0)
    yield Step.BROKEN
    for link in scene.links("surrealdb"):
        link.mend()
    yield Step.MENDED
    assert "stayed busy" not in "".join(one.child.output() for one in scene.processes)


@fault(17, "every bulk write conflicts with somebody", rows=80)
def conflicts(scene: Scene) -> Steps:
    """Somebody touches the locks that the writes delete, as fast as it can."""
    over = threading.Event()

    def touch() -> None:
        while not over.is_set():
            with suppress(EmbedStarError):
                scene.lab.query("UPDATE embedding_lock SET touched = rand::ulid() RETURN NONE")

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        yield Step.BROKEN
    finally:
        over.set()
        toucher.join()
    yield Step.MENDED


@fault(18, "sessions expire after a second")
def sessions_expire(scene: Scene) -> Steps:
    _set_session(scene, "1s")
    for link in scene.links("surrealdb"):
        link.cut()
        link.mend()
    yield Step.BROKEN
    _set_session(scene, "NONE")
    yield Step.MENDED


@fault(21, "live notifications are lost: the socket is silent, then cut", within_s=15.0)
def live_lost(scene: Scene) -> Steps:
    (link,) = scene.links("surrealdb", scene.producers)
    link.silence()
    yield Step.BROKEN
    link.cut()
    link.mend()
    yield Step.MENDED


@fault(21, "the last notification is lost", rows=0, within_s=15.0)
def last_notification_lost(scene: Scene) -> Steps:
    """Nothing is written after it that would wake the producer."""
    scene.await_logged("leading")
    (link,) = scene.links("surrealdb", scene.producers)
    link.cut()
    scene.user.insert(BATCH_ROWS)
    yield Step.BROKEN
    link.mend()
    yield Step.MENDED


def _set_session(scene: Scene, duration: str) -> None:
    settings = scene.tenant.settings
    connection = Connection(scene.tenant.root_target())
    try:
        connection.query(
            f"DEFINE USER OVERWRITE {settings.db_user} ON DATABASE "
            f"PASSWORD '{settings.db_pass.get_secret_value()}' ROLES EDITOR "
            f"DURATION FOR TOKEN 1h, FOR SESSION {duration}"
        )
    finally:
        connection.close()
