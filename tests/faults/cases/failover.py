"""Redis behind Sentinel: the master dies, and a replica that missed writes takes over.

embed_star knows one address of Redis. Something in front of Sentinel (a proxy, a service of
the cluster) leads to whoever is master; here the links do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from embed_star.devstack.processes import Child, Command
from embed_star.devstack.servers import free_port
from tests.faults.fault import IN_FLIGHT, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually

MASTER = "fleet"


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A replica of the arena's Redis, and a Sentinel that watches both."""

    replica_port: int
    port: int

    def master_port(self) -> int:
        """Where Sentinel says the master is."""
        with redis.Redis(port=self.port) as client:
            return int(client.sentinel_get_master_addr_by_name(MASTER)[1])


@fault(13, "Sentinel fails over to a replica that missed writes", again=2 * IN_FLIGHT, hits=1)
def failover(scene: Scene) -> Steps:
    with _sentinel(scene) as sentinel:
        replica = f"redis://:{scene.redis_password}@127.0.0.1:{sentinel.replica_port}/0"
        # The replica falls behind: it is thrown out, and cannot come back.
        scene.redis(lambda client: client.config_set("masterauth", "wrong"), replica)
        scene.redis(lambda client: client.execute_command("CLIENT KILL TYPE replica"))
        scene.under_way(calls=4)
        scene.redis(lambda client: client.set("written-after", "1"))
        scene.servers.stop_server("redis", grace_s=0)
        scene.usual()
        yield Step.BROKEN
        eventually(lambda: sentinel.master_port() == sentinel.replica_port, "it fails over", 40.0)
        assert scene.redis(lambda client: client.get("written-after"), replica) is None
        for link in scene.links("redis"):
            link.lead_to(sentinel.replica_port)
        yield Step.MENDED
        for link in scene.links("redis"):
            link.cut()
        scene.servers.start_server("redis")


@contextmanager
def _sentinel(scene: Scene) -> Iterator[Sentinel]:
    servers, password = scene.servers, scene.redis_password
    sentinel = Sentinel(free_port(), free_port())
    replica = _start(
        scene,
        "replica",
        ("redis-server", "-"),
        f"bind 127.0.0.1\nport {sentinel.replica_port}\nrequirepass {password}\n"
        f"masterauth {password}\nreplicaof 127.0.0.1 {servers.ports['redis']}\n"
        f'save ""\ndir {servers.data.folder("replica")}\n',
    )
    config = servers.data.folder("sentinel") / "sentinel.conf"
    config.write_text(
        f"bind 127.0.0.1\nport {sentinel.port}\nprotected-mode no\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {servers.ports['redis']} 1\n"
        f"sentinel auth-pass {MASTER} {password}\n"
        f"sentinel down-after-milliseconds {MASTER} 1000\n"
        f"sentinel failover-timeout {MASTER} 5000\n"
    )
    watcher = _start(scene, "sentinel", ("redis-sentinel", str(config)), "")
    try:
        eventually(lambda: _replicates(scene, sentinel), "the replica is in step", 30.0)
        yield sentinel
    finally:
        for child in (watcher, replica):
            child.stop(0)
        if servers.processes["redis"].ended.is_set():
            servers.start_server("redis")


def _start(scene: Scene, name: str, argv: tuple[str, ...], stdin: str) -> Child:
    servers = scene.servers
    command = Command(argv, scene.tenant.inherited(), stdin)
    return Child(name, command, servers.data.log(name), servers.reaper)


def _replicates(scene: Scene, sentinel: Sentinel) -> bool:
    """Whether the replica is in step, and Sentinel knows of it."""
    try:
        with redis.Redis(port=sentinel.port) as client:
            found = client.sentinel_slaves(MASTER)
        master = scene.redis(lambda client: client.info("replication"))
    except redis.RedisError:
        return False
    in_step = master.get("slave0", {}).get("state") == "online"
    return in_step and any(one["port"] == sentinel.replica_port for one in found)
