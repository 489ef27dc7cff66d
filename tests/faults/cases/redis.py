"""Redis restarts, forgets, is full, falls silent, or loses or repeats messages."""

from __future__ import annotations

import shutil

from embed_star.models import Lane
from tests.faults.fault import IN_FLIGHT, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually

FLEET_IN_FLIGHT = 2 * IN_FLIGHT


def assert_nothing_is_asked(scene: Scene) -> None:
    """P: once the calls in flight have ended, nobody pays for what could not be kept."""
    eventually(lambda: scene.provider.stats()["concurrent"] == 0, "no call is under way")
    asked, waits = scene.provider.stats()["calls"], scene.logged("producer_waits")
    eventually(lambda: scene.logged("producer_waits") > waits, "the producer has tried again", 40.0)
    assert scene.provider.stats()["calls"] == asked, "a call was made without Redis"


@fault(8, "every message is delivered twice, one after the other", workers=0, rows=30)
def delivered_twice(scene: Scene) -> Steps:
    scene.await_enqueued(batches=4)
    messages = scene.queued()
    worker = scene.worker()
    yield Step.BROKEN
    eventually(lambda: not scene.queued(), "the queue is empty")
    scene.redis(lambda client: client.rpush(scene.queue, *messages))
    yield Step.MENDED
    eventually(lambda: not scene.queued(), "the copies are taken")
    assert worker in scene.workers


@fault(
    8,
    "every message is there twice, and two workers take them at once",
    says=("copy_ignored",),
    workers=0,
    rows=30,
)
def delivered_twice_at_once(scene: Scene) -> Steps:
    """As when the answer to what was published is lost, and it is published again."""
    scene.await_enqueued(batches=4)
    for message in scene.queued():
        scene.redis(lambda client, one=message: client.linsert(scene.queue, "BEFORE", one, one))
    for _ in range(2):
        scene.worker()
    yield Step.BROKEN
    yield Step.MENDED


@fault(9, "Redis is killed and comes back empty", again=FLEET_IN_FLIGHT, hits=1)
def redis_restarts_empty(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    scene.servers.stop_server("redis", grace_s=0)
    shutil.rmtree(scene.servers.data.folder("redis") / "appendonlydir")
    scene.usual()
    yield Step.BROKEN
    scene.servers.start_server("redis")
    yield Step.MENDED
    assert scene.answering_workers() == 2


@fault(10, "FLUSHALL in the middle of a chord", again=FLEET_IN_FLIGHT, hits=1)
def flushed(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    scene.redis(lambda client: client.flushall())
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED
    assert scene.answering_workers() == 2


@fault(
    11,
    "Redis is out of memory and takes no writes",
    again=FLEET_IN_FLIGHT,
    hits=1,
    says=("producer_waits",),
)
def redis_full(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    scene.redis(lambda client: client.config_set("maxmemory", "1"))
    scene.usual()
    yield Step.BROKEN
    scene.await_logged("producer_waits")
    assert_nothing_is_asked(scene)
    waits = scene.logged("producer_waits")
    assert waits < 60, f"the producer does not back off: {waits} tries"
    scene.redis(lambda client: client.config_set("maxmemory", "0"))
    yield Step.MENDED
    assert scene.answering_workers() == 2


@fault(14, "Redis is half-open: traffic stops, no connection closes", again=FLEET_IN_FLIGHT, hits=1)
def redis_half_open(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for link in scene.links("redis"):
        link.silence()
    scene.usual()
    yield Step.BROKEN
    # Publishing ends with its deadline: the producer says so, and does not hang.
    scene.await_logged("producer_waits")
    assert_nothing_is_asked(scene)
    for link in scene.links("redis"):
        link.mend()
    yield Step.MENDED
    assert scene.answering_workers() == 2


@fault(42, "cache entries are corrupt, torn, of another length, or empty", again=1000, hits=1)
def cache_corrupt(scene: Scene) -> Steps:
    scene.lab.await_quiet()
    damage = (b"", b"\x00", b"x" * 200)
    names = scene.cached_names()
    for number, name in enumerate(names):
        entry = bytes(scene.redis(lambda client, one=name: client.get(one)))
        flipped = entry[:-1] + bytes([entry[-1] ^ 1])
        torn = [*damage, entry[:-4], flipped][number % 5]
        scene.redis(lambda client, one=name, value=torn: client.set(one, value))
    assert names
    # Workers that have none of it in their own memory, and no row with a vector.
    scene.kill(*scene.workers)
    scene.lab.query(f"DELETE {scene.lab.services.space.table}")
    scene.lab.services.store.outbox.announce([(key, 10) for key in scene.user.keys], Lane.FRESH)
    for _ in range(2):
        scene.worker()
    yield Step.BROKEN
    yield Step.MENDED
    assert sum(scene.lab.report().paid_again.values()) <= len(names)


@fault(43, "a header part of a chord is lost", workers=0, rows=15, edits=False)
def header_lost(scene: Scene) -> Steps:
    scene.user.insert(20)
    scene.await_enqueued(batches=3)
    assert scene.redis(lambda client: client.lpop(scene.queue))
    for _ in range(2):
        scene.worker()
    yield Step.BROKEN
    yield Step.MENDED
    # The others' rows wait for their locks' end, and are found in the cache.
    assert scene.paid() == scene.lab.report().rows
