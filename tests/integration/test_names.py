"""Namespace, database and user are called as SurrealDB lets people call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embed_star.cli.checks import _database, _schema
from embed_star.devstack.database import Engine
from embed_star.devstack.datadir import DataDir
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.errors import ConfigError
from embed_star.settings import load_settings
from embed_star.store.bootstrap import bootstrap
from tests.conftest import DIMENSIONS, root_target
from tests.support.command_line import embed_star
from tests.support.servers import find_surreal
from tests.support.world import World

NAMES = [
    ("my-app", "prod-2", "embed-star"),
    ("ünï ⟩code", "a.b", "o'hara `x` \\"),
    ("1", "default", "-x"),
    ("select", "USE DB x; REMOVE DATABASE stars", 'a"b:c/d*'),
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LocalServers]]:
    with ExitStack() as started:

        def make(engine: Engine, namespace: str, database: str, user: str) -> LocalServers:
            if engine == "server":
                find_surreal()
            options = ServerOptions(
                engine=engine,
                memory=True,
                namespace=namespace,
                database=database,
                user=user,
            )
            return started.enter_context(LocalServers(tmp_path / "data", options))

        yield make


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
@pytest.mark.parametrize("engine", ["server", "embedded"])
def test_the_whole_way_under_any_name(
    start: Callable[..., LocalServers],
    engine: Engine,
    names: tuple[str, str, str],
    clean_environment: None,
) -> None:
    servers = start(engine, *names)
    env = servers.environment
    assert (env["DB_NAMESPACE"], env["DB_DATABASE"], env["DB_USER"]) == names
    made = {**env, "EMBEDDING_MODEL": "test-model", "EMBEDDING_DIMENSIONS": str(DIMENSIONS)}
    if engine == "server":
        for _ in range(2):  # again sets the password anew
            printed = embed_star(
                "migrate", "--bootstrap", env={**made, **servers.root_environment}
            ).assert_worked()
            assert "ready" in printed
        root = root_target(servers, names[1])
        bootstrap(root, names[2], "another")
        bootstrap(root, names[2], env["DB_PASS"])
    else:
        embed_star("migrate", env=made).assert_worked()
    world = World(load_settings(_env_file=None, **{k.lower(): v for k, v in made.items()}))
    (where,) = world.query("RETURN [session::ns(), session::db()]")
    assert tuple(where) == names[:2]
    world.write_many(3)
    world.settle()
    assert world.reconcile() == 0
    world.assert_current()
    assert _database(world.services)
    assert _schema(world.services) == f"space {world.services.space.name}"
    world.close()


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_another_terminal_reads_them_from_local_env(
    tmp_path: Path, names: tuple[str, str, str], clean_environment: None
) -> None:
    data = DataDir(tmp_path)
    namespace, database, user = names
    data.write_local_env(
        {"DB_NAMESPACE": namespace, "DB_DATABASE": database, "DB_USER": user, "DB_PASS": "x"}
    )
    found = load_settings(_env_file=data.local_env)
    assert (found.db_namespace, found.db_database, found.db_user) == names


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\tb", "a\0", "\u202ea", "x" * 256])
@pytest.mark.parametrize("field", ["db_namespace", "db_database", "db_user"])
def test_what_is_no_name_is_refused(field: str, name: str, clean_environment: None) -> None:
    with pytest.raises(ConfigError, match=f"{field.upper()} must be 1 to 255 printable"):
        load_settings(_env_file=None, db_pass="x", **{field: name})
