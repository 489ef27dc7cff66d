"""A Redis Cluster is said to be one when a process starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embed_star.claims.redis_locks import RedisLocks
from embed_star.coordination import client as connection
from embed_star.devstack.servers import free_port
from embed_star.errors import RedisUnavailable
from tests.support.command_line import CELERY, EMBED_STAR, run_warm
from tests.support.fleet import Fleet
from tests.support.redis_with import redis_with


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with redis_with("cluster-enabled yes", f"cluster-port {free_port()}") as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.mark.parametrize("variable", ["REDIS_URL", "CACHE_URL"])
def test_each_process_says_so_and_ends(fleet: Fleet, cluster: str, variable: str) -> None:
    tenant = fleet.tenant()
    env = {**tenant.env, variable: cluster}
    for argv in (
        (*CELERY, "worker"),
        (*CELERY, "beat", "--pidfile="),
        (*EMBED_STAR, "watch"),
    ):
        done = run_warm(*argv, env=env)
        assert done.code in (1, 2), done.out + done.err
        last = done.err.strip().splitlines()[-1]
        assert last.startswith("embed-star: Redis at 127.0.0.1:"), done.err
        assert "is a Redis Cluster" in last
        assert "Traceback" not in done.err
    doctor = run_warm(*EMBED_STAR, "doctor", env=env)
    assert doctor.code == 1
    (line,) = [one for one in doctor.out.splitlines() if one.split()[1] == "redis"]
    assert line.startswith("FAIL")
    assert "is a Redis Cluster" in line


def test_its_answers_are_named_where_it_did_not_say(cluster: str) -> None:
    with (
        connection.connect(cluster, 5.0) as client,
        pytest.raises(RedisUnavailable, match="it is a Redis Cluster"),
    ):
        RedisLocks(client, "test:").acquire([1, 2], "one", 60.0)
