"""What the tests share: real servers for the session, a fresh database for each test.

`engine` is both SurrealDBs in turn, a server and the embedded engine behind its gateway;
`world` is everything wired to it. None of it sees the developer's environment or `.env`.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.services.store import target_of
from embed_star.settings import RootSettings, Settings, load_settings
from embed_star.store.client.connection import Connection, Target
from tests.support.databases import PASSWORD, Databases
from tests.support.servers import local_servers
from tests.support.side_by_side import ByFile, rank
from tests.support.world import World

DIMENSIONS = 8

SERVER_FIXTURES = {"redis_server", "surreal", "gateway", "engine", "servers", "fleet"}
SERVER_PARAMETERS = {"redis", "server", "embedded"}
"""A test that asks for one of these fixtures, or that gets one of these parameters, starts
Redis or SurrealDB: it is marked `server` (and `make check` leaves it out)."""

gc.disable()  # until all is imported and collected: it stays, and each look at it costs

_databases = itertools.count()
_databases_of: dict[str, Databases] = {}
"""By the server's URL."""

MakeSettings = Callable[..., Settings]
MakeWorld = Callable[..., World]


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needs_server(item):
            item.add_marker(pytest.mark.server)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def needs_server(item: pytest.Item) -> bool:
    """Whether the test starts a server, as far as its fixtures and parameters tell."""
    given = getattr(item, "callspec", None)
    parameters = [one for one in (given.params.values() if given else ()) if isinstance(one, str)]
    return bool(
        SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        or SERVER_PARAMETERS.intersection(parameters)
    )


def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Where no server is wanted, a test that starts one without the mark fails, and says why."""
    if fixturedef.argname in SERVER_FIXTURES and request.config.option.markexpr == "not server":
        pytest.fail("this test starts a server: mark it with pytest.mark.server")


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting in the environment, whatever the developer has exported."""
    names = set(Settings.model_fields) | set(RootSettings.model_fields)
    for variable in list(os.environ):
        if variable.lower() in names:
            monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    options = ServerOptions(surrealdb=False, memory=True)
    with LocalServers(tmp_path_factory.mktemp("redis"), options) as servers:
        yield servers


@pytest.fixture
def redis_url(redis_server: LocalServers) -> str:
    """A Redis with nothing in it."""
    with redis.Redis.from_url(redis_server.redis_url) as client:
        client.flushall()
    return redis_server.redis_url


@pytest.fixture(scope="session")
def surreal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """A SurrealDB server, in memory; skipped where there is none (see `find_surreal`)."""
    with local_servers(tmp_path_factory.mktemp("surreal"), "server", redis=False) as servers:
        yield servers
        if databases := _databases_of.pop(servers.environment["DB_URL"], None):
            databases.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """The embedded engine, in memory, behind its gateway."""
    with local_servers(tmp_path_factory.mktemp("gateway"), "embedded", redis=False) as servers:
        yield servers


@pytest.fixture(scope="session", params=["server", "embedded"])
def engine(request: pytest.FixtureRequest) -> LocalServers:
    """Each SurrealDB in turn."""
    name = {"server": "surreal", "embedded": "gateway"}[request.param]
    servers: LocalServers = request.getfixturevalue(name)
    return servers


def root_target(servers: LocalServers, database: str) -> Target:
    """The root user of a server, on `database`."""
    values = servers.environment
    return Target(
        url=values["DB_URL"],
        user=servers.root_environment["ROOT_DB_USER"],
        password=servers.root_environment["ROOT_DB_PASS"],
        namespace=values["DB_NAMESPACE"],
        database=database,
        root=True,
    )


def fresh_database(servers: LocalServers) -> dict[str, str]:
    """Settings, in lower case, of a database with nothing in it."""
    values = {name.lower(): value for name, value in servers.environment.items()}
    if servers.engine == "server":
        values["db_database"] = f"test_{next(_databases)}"
        if (url := values["db_url"]) not in _databases_of:
            first = root_target(servers, "test_first")
            _databases_of[url] = Databases(first, values["db_user"])
        _databases_of[url].make(values["db_database"])
        values["db_pass"] = PASSWORD
    else:  # the gateway serves one database
        connection = Connection(target_of(load_settings(_env_file=None, **values)))
        (info,) = connection.query("INFO FOR DB")
        connection.query("".join(f"REMOVE TABLE `{table}`;" for table in info["tables"]))
        connection.close()
    return values


@pytest.fixture
def make_settings(
    engine: LocalServers,
    redis_url: str,
    clean_environment: None,
) -> MakeSettings:
    """Settings of a fresh database, a fresh Redis and an 8-dimensional model."""
    values: dict[str, Any] = {
        "embedding_provider": "local",
        "embedding_model": "test-model",
        "embedding_dimensions": DIMENSIONS,
        "batch_size": 100,
        **fresh_database(engine),
        "redis_url": redis_url,
    }

    def make(**changes: Any) -> Settings:
        assert changes.keys() <= Settings.model_fields.keys()  # else they would be ignored
        return load_settings(_env_file=None, **(values | changes))

    return make


@pytest.fixture
def make_world(make_settings: MakeSettings) -> Iterator[MakeWorld]:
    """A world with settings that differ; more than one share the database and Redis."""
    made: list[World] = []

    def make(**changes: Any) -> World:
        options = {name: changes.pop(name) for name in ("page_rows",) if name in changes}
        made.append(World(make_settings(**changes), **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Everything wired, the database's schema in place, no repo yet."""
    return make_world()
