"""What processes do when they start into trouble: servers down, a Redis that is set up wrong."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from embed_star.devstack.processes import Child
from embed_star.errors import RedisUnavailable, StoreUnavailable
from embed_star.services.monitoring import redis_facts
from embed_star.timings import SHUTDOWN_MARGIN_S
from tests.support.command_line import CELERY, embed_star
from tests.support.fleet import STOP_S, Fleet, Tenant, log_lines
from tests.support.own_time import ends_within
from tests.support.servers import eventually


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, memory=False) as running:
        yield running


def logs(child: Child, event: str, times: int = 1) -> bool:
    return len(reasons(child, event)) >= times


def reasons(child: Child, event: str) -> list[str]:
    return [line.get("reason", "") for line in log_lines(child) if line["event"] == event]


def is_reachable(tenant: Tenant) -> bool:
    """Whether the test's own connection to the database has been made again."""
    try:
        return tenant.lab.is_quiet()
    except StoreUnavailable:
        return False


def test_everything_is_down(fleet: Fleet) -> None:
    tenant = fleet.tenant(SWEEP_INTERVAL_S="1")
    for server in ("redis", "surrealdb"):
        fleet.servers.stop_server(server)
    worker = tenant.start("worker", *CELERY, "worker", "-n", "worker@%h")
    beat, producer = tenant.beat(), tenant.producer()
    eventually(lambda: logs(producer, "not_ready", 3), "the producer goes on trying", STOP_S)
    for child in (worker, beat):
        eventually(lambda child=child: logs(child, "not_ready"), "it says why it waits", STOP_S)
    eventually(lambda: "Trying again in" in worker.output(), "the worker goes on trying", STOP_S)
    for server in ("surrealdb", "redis"):
        fleet.servers.start_server(server)
    eventually(lambda: is_reachable(tenant), "the database is back", STOP_S)
    tenant.lab.insert(20)
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    eventually(lambda: any("swept" in line["event"] for line in log_lines(worker)), "beat works")
    for child in (worker, beat, producer):
        assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()[-3000:]}"


def test_a_redis_that_evicts_is_called_by_its_name(fleet: Fleet) -> None:
    tenant = fleet.tenant()
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    for child in (tenant.producer(), tenant.worker()):
        eventually(lambda child=child: logs(child, "redis_evicts_keys"), "it warns", STOP_S)
        (reason,) = reasons(child, "redis_evicts_keys")
        assert "allkeys-lru" in reason
        assert "noeviction" in reason
        assert not child.ended.is_set()
    doctor = embed_star("doctor", env=tenant.env)
    assert doctor.code == 1
    assert "FAIL  redis     Redis evicts keys (maxmemory-policy allkeys-lru)" in doctor.out


def test_doctor_notes_a_redis_that_keeps_nothing(fleet: Fleet) -> None:
    tenant = fleet.tenant()
    assert "without persistence" not in embed_star("doctor", env=tenant.env).assert_worked()
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        client.config_set("appendonly", "no")
    assert "without persistence" in embed_star("doctor", env=tenant.env).assert_worked()


def test_a_redis_that_is_full(fleet: Fleet) -> None:
    tenant = fleet.tenant()
    producer = tenant.producer()
    worker = tenant.worker()
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        client.config_set("maxmemory", "1")
        tenant.lab.insert(20)
        eventually(lambda: logs(producer, "producer_waits", 3), "the producer backs off", STOP_S)
        assert all("out of memory" in one for one in reasons(producer, "producer_waits"))
        waits = [one["wait_s"] for one in log_lines(producer) if one["event"] == "producer_waits"]
        assert max(waits) > min(waits)
        doctor = embed_star("doctor", env=tenant.env)
        assert "FAIL  redis     Redis: cannot write: it is out of memory" in doctor.out
        with pytest.raises(RedisUnavailable, match="out of memory"):  # so that the alert fires
            redis_facts(tenant.lab.services)
        client.config_set("maxmemory", "0")
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    for child in (worker, producer):
        assert not child.ended.is_set(), f"{child.describe_end()}\n{child.output()[-3000:]}"


def test_what_waits_for_its_servers_can_be_stopped(fleet: Fleet) -> None:
    tenant = fleet.tenant()
    for server in ("redis", "surrealdb"):
        fleet.servers.stop_server(server)
    grace = {"SHUTDOWN_GRACE_S": "1"}
    worker = tenant.start("worker", *CELERY, "worker", "-n", "worker@%h", **grace)
    beat, producer = tenant.beat(**grace), tenant.producer(**grace)
    children = (worker, beat, producer)
    for child in children:
        eventually(lambda child=child: logs(child, "not_ready"), "it waits", STOP_S)
    eventually(lambda: "Trying again in" in worker.output(), "so does its consumer", STOP_S)
    for child in children:
        child.terminate()
    with ThreadPoolExecutor() as pool:
        in_time = pool.map(lambda child: ends_within(child, 1.0 + SHUTDOWN_MARGIN_S), children)
        for child, ended in zip(children, in_time, strict=True):
            assert ended, child.output()[-3000:]
            assert child.returncode == 0, f"{child.describe_end()}\n{child.output()[-3000:]}"


def test_settings_of_earlier_versions_are_named_once_and_hold_up_nobody(fleet: Fleet) -> None:
    tenant = fleet.tenant()
    old = {"POLL_INTERVAL_S": "soon", "EMBED_RATE_LIMIT": "10/s"}
    children = [
        tenant.worker("-P", "processes", "-c", "2", **old),
        tenant.producer(**old),
        tenant.beat(**old),
    ]
    for child in children:
        eventually(lambda child=child: logs(child, "setting_retired", 2), "it names both", STOP_S)
    tenant.lab.insert(5)
    tenant.lab.await_quiet()
    for child in children:
        lines = [line for line in log_lines(child) if line["event"] == "setting_retired"]
        assert sorted(line["name"] for line in lines) == sorted(old)
        assert {line["level"] for line in lines} == {"warning"}
        assert "it is 1" in reasons(child, "setting_retired")
        assert not child.ended.is_set()
