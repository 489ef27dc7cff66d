"""A server that denies functions is told so before the event could fail a user's write."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from embed_star.devstack.servers import free_port
from embed_star.errors import SchemaError, StoreError
from embed_star.search import Filters
from embed_star.services import Services
from embed_star.services.store import target_of
from embed_star.settings import Settings, load_settings
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client import functions
from embed_star.store.client.connection import Connection, Target
from embed_star.store.client.functions import functions_in, needed
from embed_star.store.tables.event import event_sql
from tests.conftest import DIMENSIONS
from tests.support.command_line import embed_star
from tests.support.scripted_answers import vector_for
from tests.support.servers import eventually, find_surreal, is_listening
from tests.support.world import World

ROOT = Path(__file__).parents[2]
NEEDED = needed((3, 3, 5))
EVENT = event_sql(["full_name"])

Start = Callable[..., Settings]


@contextmanager
def guarded(*options: str) -> Iterator[int]:
    """The port of a server that denies everything but what is allowed to it."""
    port = free_port()
    argv = [find_surreal(), "start", "--no-banner", "--log", "none", "--deny-all", *options]
    login = ["--user", "root", "--pass", "root", "--bind", f"127.0.0.1:{port}", "memory"]
    with subprocess.Popen([*argv, *login], stdout=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: is_listening(port), "the server listens", 30.0)
            yield port
        finally:
            server.kill()


@pytest.fixture
def start(redis_url: str, clean_environment: None) -> Iterator[Start]:
    """Start a server that allows these functions; settings for it, its user made."""
    with ExitStack() as servers:

        def make(allowed: list[str]) -> Settings:
            options = ["--allow-funcs", ",".join(allowed)] if allowed else []
            url = f"ws://127.0.0.1:{servers.enter_context(guarded(*options))}"
            bootstrap(Target(url, "root", "root", "gitstars", "stars", root=True), "user", "x")
            return load_settings(
                _env_file=None,
                db_url=url,
                db_user="user",
                db_pass="x",
                redis_url=redis_url,
                embedding_model="test-model",
                embedding_dimensions=DIMENSIONS,
            )

        yield make


def test_what_is_listed_is_all_that_is_needed(start: Start) -> None:
    """The whole way with nothing more allowed: claimed, embedded, found, reconciled."""
    world = World(start(NEEDED))
    world.provider.rejects = lambda text: "poison" in text
    world.write_many(3)
    world.write("bad", full_name="poison")
    world.query("CREATE repo:[d'2024-01-01T00:00:00Z', 2] SET full_name = 'a'")
    backlog, recorder = world.backlog()
    backlog.dispatch()
    assert len(recorder.keys) == 4
    for _, run in recorder.runs:
        world.save(run[0], [one for batch in run for one in world.embed(batch)])
    assert len(world.vectors()) == 3
    vector = vector_for("owner/name1", DIMENSIONS)
    hits = world.store.retrieval.nearest(vector, 1, Filters())
    assert hits[0].repo["id"].id == 1
    assert world.store.retrieval.nearest(vector, 1, Filters(language="go")) == []
    world.store.failures.release(["bad"])
    world.store.locks.sweep(0.0)
    world.settle()
    with world.unannounced():
        world.delete(0)
        world.delete("bad")
    assert world.reconcile() == 1
    world.settle()
    assert world.store.failures.by_reason() == {"key_type": 1}
    world.store.check()
    world.close()


@pytest.mark.parametrize("denied", ["rand::ulid", "string::len", "time::now", "count"])
def test_migrate_says_what_to_allow_and_defines_nothing(start: Start, denied: str) -> None:
    settings = start([name for name in NEEDED if name != denied])
    env = {
        **{name.upper(): getattr(settings, name) for name in ("db_url", "db_user", "redis_url")},
        "DB_PASS": "x",
    }
    for command in (["migrate"], ["migrate", "--dry-run"]):
        done = embed_star(*command, env=env)
        done.assert_one_sentence(f"--allow-funcs {denied}")
        in_event = denied in ("rand::ulid", "string::len")
        assert ("every write to repo would fail" in done.err) is in_event
    connection = Connection(target_of(settings))
    connection.query("CREATE repo:1 SET full_name = 'a/b'")  # the user's own write
    (info,) = connection.query("INFO FOR TABLE repo")
    connection.close()
    assert info["events"] == {}


def test_a_function_denied_later_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is started anew with less: here, one more function is asked for."""
    settings = start(NEEDED)
    World(settings).close()
    monkeypatch.setattr(
        functions, "_TRIALS", {**functions._TRIALS, "crypto::md5": "crypto::md5('')"}
    )
    with (
        Services(settings) as services,
        pytest.raises(SchemaError, match=r"cannot work.*--allow-funcs crypto::md5"),
    ):
        services.store.check()


def test_without_the_check_the_event_would_break_the_user_s_writes(start: Start) -> None:
    """What it is for."""
    settings = start(["string"])
    connection = Connection(target_of(settings))
    connection.query(f"DEFINE TABLE embedding_outbox; DEFINE TABLE repo; {EVENT}")
    with pytest.raises(StoreError, match="rand::ulid"):
        connection.query("CREATE repo:1 SET full_name = 'a/b'")
    connection.close()


class TestTheList:
    def test_has_every_function_that_is_called(self) -> None:
        called = functions_in(EVENT)
        assert called == {"rand::ulid", "string::len"}
        sources = [*(ROOT / "embed_star" / "store").rglob("*.py"), *ROOT.glob("migrations/*.surql")]
        for path in sources:
            if path.name != "functions.py" and not path.name.startswith("gateway"):
                called |= functions_in(path.read_text())
                called |= set(re.findall(r'"(type::[a-z]+)"', path.read_text()))
        assert called == set(functions._TRIALS)

    def test_is_that_of_the_documents(self) -> None:
        text = (ROOT / "docs" / "security.md").read_text()
        (listed,) = re.findall(r"--allow-funcs ([a-z0-9_:,]+)", text)
        assert listed.split(",") == NEEDED
        assert "type::thing" in text

    def test_differs_between_the_versions(self) -> None:
        old, new = set(needed((2, 3, 10))), set(NEEDED)
        assert old - new == {"record::exists", "type::is::record", "type::thing"}
        assert new - old == {"record::tb", "type::record"}
