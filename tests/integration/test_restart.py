"""SurrealDB goes away and comes back under its clients, which sign in again by themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from embed_star.devstack.database import Engine
from embed_star.devstack.servers import LocalServers
from embed_star.errors import StoreUnavailable
from embed_star.services.store import target_of
from embed_star.settings import load_settings
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Database, Pool
from tests.conftest import root_target
from tests.support.servers import eventually, is_stopped, local_servers


@pytest.fixture(params=["server", "embedded"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalServers]:
    kind = cast("Engine", request.param)
    with local_servers(tmp_path, kind, memory=False, redis=False) as servers:
        yield servers


@pytest.fixture
def target(servers: LocalServers, clean_environment: None) -> Target:
    values = {name.lower(): value for name, value in servers.environment.items()}
    if servers.engine == "server":
        root = root_target(servers, values["db_database"])
        bootstrap(root, values["db_user"], values["db_pass"])
    return target_of(load_settings(_env_file=None, **values))


def answers(database: Database) -> bool:
    try:
        return database.query("SELECT VALUE n FROM ONLY thing:1") == [7]
    except StoreUnavailable:
        return False


def test_a_restarted_server_costs_each_connection_one_query_at_most(
    servers: LocalServers, target: Target
) -> None:
    database = Database(Pool(target, size=3))
    database.query("CREATE thing:1 SET n = 7")
    with database.pool.connection(), database.pool.connection(), database.pool.connection():
        pass
    servers.stop_server("surrealdb", grace_s=0)
    assert not answers(database)
    servers.start_server("surrealdb")
    eventually(lambda: answers(database), "it answers again")
    # Each connection that the restart broke costs one refusal at most, and then none is left.
    results = [answers(database) for _ in range(6)]
    assert results[-3:] == [True, True, True]
    assert database.pool.stats().active == 0
    database.close()


def test_a_stopped_process_is_waited_for_no_longer_than_the_deadline(
    servers: LocalServers, target: Target
) -> None:
    database = Database(Pool(replace(target, timeout_s=0.3, connect_timeout_s=0.3), size=1))
    database.query("CREATE thing:1 SET n = 7")
    pid = servers.processes["surrealdb"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: is_stopped(pid), "it stands still")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                database.query("RETURN 1")
        assert database.pool.stats().active == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: answers(database), "it answers again")
    database.close()
