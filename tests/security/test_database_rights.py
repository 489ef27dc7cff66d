"""What the workload's user is refused: by its role, by the server's flags, by the gateway."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from embed_star.devstack.servers import LocalServers
from embed_star.errors import StoreAuthError, StoreError
from embed_star.services import Services
from embed_star.services.store import target_of
from embed_star.settings import load_settings
from embed_star.store.client.connection import Connection
from tests.conftest import MakeSettings, fresh_database, root_target
from tests.support.command_line import CELERY, EMBED_STAR, embed_star, run_warm

BEYOND = """\
USE NS other
USE NS other DB other
DEFINE NAMESPACE other
DEFINE DATABASE other
REMOVE DATABASE stars
REMOVE NAMESPACE gitstars
INFO FOR ROOT
INFO FOR NS
DEFINE USER other ON DATABASE PASSWORD 'x' ROLES OWNER
DEFINE USER other ON NAMESPACE PASSWORD 'x' ROLES OWNER
DEFINE USER other ON ROOT PASSWORD 'x' ROLES OWNER
DEFINE USER OVERWRITE embed_star ON DATABASE PASSWORD 'x' ROLES OWNER
REMOVE USER embed_star ON DATABASE
DEFINE ACCESS other ON DATABASE TYPE RECORD""".splitlines()
"""On both SurrealDBs."""

ON_A_SERVER = """\
ALTER USER embed_star ON DATABASE ROLES OWNER
ACCESS other GRANT FOR USER embed_star
DEFINE API "/x" FOR get THEN {}
DEFINE CONFIG GRAPHQL AUTO
DEFINE SEQUENCE x""".splitlines()

REFUSED = re.compile(r"permission|not served")
NOT_ALLOWED = re.compile("not (allowed|enabled)")


@pytest.fixture
def workload(make_settings: MakeSettings) -> Iterator[Connection]:
    """The workload's user, signed in, on each SurrealDB in turn."""
    connection = Connection(target_of(make_settings()))
    yield connection
    connection.close()


def answer(connection: Connection, statement: str) -> str:
    """What it is answered, in words."""
    try:
        return f"allowed: {connection.query(statement)}"
    except StoreError as error:
        return str(error)


def refuse(connection: Connection, *statements: str) -> None:
    answers = {statement: answer(connection, statement) for statement in statements}
    assert {s: a for s, a in answers.items() if not REFUSED.search(a)} == {}


def test_no_other_database_and_no_users(workload: Connection, engine: LocalServers) -> None:
    refuse(workload, *BEYOND)
    if engine.engine == "server":
        refuse(workload, *ON_A_SERVER)
    # Refused, and still of use.
    assert workload.query("RETURN [session::ns(), session::db()]")[0][0] == "gitstars"


def test_statements_hidden_in_others(workload: Connection) -> None:
    refuse(
        workload,
        "RETURN 1; DEFINE/**/USER x ON ROOT PASSWORD 'x' ROLES OWNER",
        "RETURN 1; remove\n-- x\nuser embed_star ON DATABASE",
        "BEGIN; REMOVE NAMESPACE gitstars; COMMIT",
    )


def test_another_database_with_the_same_password(surreal: LocalServers) -> None:
    values = fresh_database(surreal)
    mine = load_settings(_env_file=None, **values)
    Connection(target_of(mine)).close()
    for other in ({"db_database": "unknown"}, {"db_namespace": "unknown"}):
        elsewhere = load_settings(_env_file=None, **(values | other))
        with pytest.raises(StoreAuthError, match="refused user"):
            Connection(target_of(elsewhere))


class Listener:
    """A port of this machine, and whether anybody has come."""

    def __init__(self, server: socket.socket) -> None:
        server.setblocking(False)
        self._server = server
        self.url = f"http://127.0.0.1:{server.getsockname()[1]}/"

    def visited(self) -> bool:
        try:
            self._server.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Listener(server)


@pytest.mark.parametrize("call", ["get('{}')", "head('{}')", "post('{}', {{}})", "delete('{}')"])
def test_the_server_calls_nobody(call: str, workload: Connection, listener: Listener) -> None:
    with pytest.raises(StoreError, match=NOT_ALLOWED):
        workload.query(f"RETURN http::{call.format(listener.url)}")
    assert not listener.visited()


def test_root_is_refused_http_too(surreal: LocalServers, listener: Listener) -> None:
    """So it is the server's flags, and not the role, that refuse it."""
    connection = Connection(root_target(surreal, "stars"))
    with pytest.raises(StoreError, match=r"http::get.* not allowed"):
        connection.query(f"RETURN http::get('{listener.url}')")
    with pytest.raises(StoreError, match=NOT_ALLOWED):
        connection.query("RETURN function() { return 1 }")
    connection.close()
    assert not listener.visited()


def test_no_lesser_role_can_do_the_work(surreal: LocalServers) -> None:
    """EDITOR is the least: VIEWER, the only one below it, writes nothing and is told nothing."""
    values = fresh_database(surreal)
    root = Connection(root_target(surreal, values["db_database"]))
    root.query("DEFINE USER reader ON DATABASE PASSWORD 'reader' ROLES VIEWER; DEFINE TABLE x")
    reader = load_settings(_env_file=None, **(values | {"db_user": "reader", "db_pass": "reader"}))
    connection = Connection(target_of(reader))
    connection.query("INSERT INTO x { id: 1 }")
    assert root.query("SELECT * FROM x") == [[]]
    with pytest.raises(StoreAuthError):
        connection.query("DEFINE TABLE y")
    connection.close()
    root.close()


class TestAUserThatMayOnlyRead:
    """Its writes do nothing and raise nothing: that is noticed before anything is built on them."""

    @pytest.fixture
    def env(self, surreal: LocalServers, redis_url: str) -> dict[str, str]:
        """Of a migrated database, and a reader on it."""
        values = {**fresh_database(surreal), "redis_url": redis_url, "embedding_provider": "local"}
        owner = Services(load_settings(_env_file=None, **values))
        owner.store.migrator.apply()
        owner.store.spaces.ensure(owner.space, owner.settings.text_fields)
        owner.close()
        root = Connection(root_target(surreal, values["db_database"]))
        root.query("DEFINE USER reader ON DATABASE PASSWORD 'reader' ROLES VIEWER")
        root.close()
        return {**values, "db_user": "reader", "db_pass": "reader"}

    @pytest.fixture
    def services(self, env: dict[str, str]) -> Iterator[Services]:
        services = Services(load_settings(_env_file=None, **env))
        yield services
        services.close()

    def test_is_refused_where_rows_are_written(self, services: Services) -> None:
        with pytest.raises(StoreAuthError, match="role EDITOR"):
            services.store.check()

    def test_may_look(self, services: Services) -> None:
        services.store.check(to_write=False)
        assert services.store.failures.by_reason() == {}

    def test_claims_nothing(self, services: Services) -> None:
        """Also when it lost its rights while the process ran."""
        with pytest.raises(StoreAuthError, match="role EDITOR"):
            services.store.locks.acquire([1], "run", 45.0)

    @pytest.mark.parametrize(
        "command", ["reconcile", "failures retry --all", "import -", "migrate"]
    )
    def test_is_told_by_commands(self, env: dict[str, str], command: str) -> None:
        given = {name.upper(): value for name, value in env.items()}
        done = embed_star(*command.split(), env=given, stdin=b'{"id": 1, "full_name": "a/b"}')
        done.assert_one_sentence("role EDITOR")

    @pytest.mark.parametrize("process", [[*EMBED_STAR, "watch"], [*CELERY, "worker"]], ids=len)
    def test_ends_a_process_that_starts(self, env: dict[str, str], process: list[str]) -> None:
        given = {name.upper(): value for name, value in env.items()}
        done = run_warm(*process, env={**given, "MONITORING_PORT": "0"})
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith("embed-star: the database user has no right")
        assert "Traceback" not in done.out + done.err
