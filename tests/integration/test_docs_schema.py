"""docs/schema.md is true: its queries work on both SurrealDBs, its fields are all there."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from surrealdb import Surreal

from embed_star.devstack.servers import LocalServers
from embed_star.errors import StoreAuthError
from embed_star.models import Lane
from embed_star.services.store import target_of
from embed_star.settings import load_settings
from embed_star.store.client.connection import Connection
from embed_star.store.tables.checkpoints import Phase
from embed_star.values import RecordID
from tests.conftest import fresh_database, root_target
from tests.support.lab import example_readme
from tests.support.servers import eventually, find_surreal
from tests.support.world import Unclaimed, World

PAGE = (Path(__file__).resolve().parents[2] / "docs/schema.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^#+ (.+)\n((?:(?!#).*\n)*)", PAGE, re.MULTILINE)
QUERY = re.compile(r"^```surql\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{title} {number}")
    for title, body in SECTIONS
    for number, block in enumerate(QUERY.findall(body), 1)
]

OLD_NAMES = {"type::record": "type::thing", "time::from_ulid": "time::from::ulid"}


def block(title: str) -> str:
    """The first query under a heading."""
    (body,) = [body for heading, body in SECTIONS if heading == title]
    return str(QUERY.findall(body)[0])


def documented_fields() -> dict[str, set[str]]:
    """Field names by heading, of the sections under "Tables"."""
    return {
        title: {
            name
            for cell in re.findall(r"^\| (`[^|]+`) \|", body, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        }
        for title, body in SECTIONS
        if "| field |" in body
    }


@contextmanager
def _world(servers: LocalServers, redis_url: str) -> Iterator[World]:
    """The default settings, and something for every query of the page to find."""
    values: dict[str, Any] = {**fresh_database(servers), "redis_url": redis_url}
    world = World(load_settings(_env_file=None, **values), page_rows=2)
    for name in ("celery/celery", "rq/rq", "pallets/flask"):
        world.write(name, full_name=name, language="Python")
    world.write("pallets/flask", description="too long " * 3_000)
    world.provider.rejects = lambda text: "refused in sentence 0" in text
    world.write("celery/celery", readme=example_readme("one", "two", "refused"))
    world.write("no/text", stargazers_count=1)
    world.settle()
    world.write("being/embedded", full_name="being/embedded")
    world.claim()
    world.write("new/fresh", full_name="new/fresh")
    yield world
    world.close()


@pytest.fixture
def docs_world(
    engine: LocalServers,
    redis_url: str,
    clean_environment: None,
) -> Iterator[World]:
    with _world(engine, redis_url) as world:
        yield world


@pytest.fixture
def server_world(
    surreal: LocalServers,
    redis_url: str,
    clean_environment: None,
) -> Iterator[World]:
    """On a server: the embedded engine has no users."""
    with _world(surreal, redis_url) as world:
        yield world


@contextmanager
def as_root(servers: LocalServers, world: World) -> Iterator[Connection]:
    connection = Connection(root_target(servers, world.settings.db_database))
    yield connection
    connection.close()


def query(world: World, sql: str, **params: Any) -> list[Any]:
    """As the page says it is to be written on the version at hand."""
    if world.store.database.version < (3,):
        for new, old in OLD_NAMES.items():
            sql = sql.replace(new, old)
    return world.query(sql, **params)


def test_the_page_has_queries_and_tables() -> None:
    assert len(BLOCKS) == PAGE.count("```surql") >= 10
    assert len(documented_fields()) == PAGE.count("| field |") >= 7


@pytest.mark.parametrize("sql", BLOCKS)
def test_every_query_of_the_page_works(engine: LocalServers, docs_world: World, sql: str) -> None:
    if "<|" in sql:
        docs_world.store.vectors.build_index()
        eventually(docs_world.store.retrieval.has_index, "the index is built")
    if "DEFINE USER" in sql and engine.engine == "server":
        with as_root(engine, docs_world) as root:
            root.query(sql)
    elif "DEFINE USER" in sql:
        with pytest.raises(StoreAuthError, match="no right to do this"):
            query(docs_world, sql)
    else:
        assert query(docs_world, sql)[-1] or re.match(r"DEFINE|ALTER", sql)


def test_the_page_says_what_is_written_otherwise_on_2() -> None:
    for new, old in OLD_NAMES.items():
        assert f"`{old}` for `{new}`" in " ".join(PAGE.split())


def test_the_page_finds_a_repo_with_its_vector(docs_world: World) -> None:
    (found,) = query(docs_world, block("A repo with its vector"))
    assert found["repo"]["full_name"] == "celery/celery"
    assert len(found["vector"]) == docs_world.settings.dimensions


def test_the_page_finds_many_repos_with_their_vectors(docs_world: World) -> None:
    (found,) = query(docs_world, block("Many repos with their vectors"))
    vectors = {row["id"].id: row.get("vector") for row in found}
    assert {key for key, vector in vectors.items() if vector} == {
        "celery/celery",
        "rq/rq",
        "pallets/flask",
    }
    assert {"no/text", "new/fresh"} < set(vectors)


def test_the_page_finds_what_is_most_like_a_repo(docs_world: World) -> None:
    found = query(docs_world, block("What is most like it"))[-1]
    assert len(found) == 3
    assert found[0]["name"] == "celery/celery"
    assert found[0]["score"] == pytest.approx(1.0)


def test_a_bulk_load_goes_to_lane_1(docs_world: World) -> None:
    sql = block("A bulk load")
    query(docs_world, sql)
    assert [entry.key for entry in docs_world.outbox(Lane.BACKFILL)] == ["owner/name"]
    # Or as a variable of the query.
    insert = sql.partition(";")[2].replace("owner/name", "owner/other")
    docs_world.query(insert, embed_star_lane=1)
    keys = {entry.key for entry in docs_world.outbox(Lane.BACKFILL)}
    assert keys == {"owner/name", "owner/other"}


def test_define_table_keeps_the_event(docs_world: World) -> None:
    docs_world.query("DEFINE TABLE OVERWRITE repo SCHEMALESS")
    (info,) = query(docs_world, block("The event"))
    assert "embedding_outbox" in info["events"]
    docs_world.query("REMOVE TABLE repo; DEFINE TABLE repo")
    (info,) = query(docs_world, block("The event"))
    assert info["events"] == {}


def test_a_viewer_reads_and_no_more(surreal: LocalServers, server_world: World) -> None:
    with as_root(surreal, server_world) as root:
        root.query(block("Who may read"))
    target = replace(target_of(server_world.settings), user="reader", password="change-me")
    viewer = Connection(target)
    try:
        for title in ("A repo with its vector", "What is pending", "What could not be embedded"):
            assert viewer.query(block(title))[0]
        viewer.query("CREATE embedding_outbox:x; DELETE embedding_failure")  # does nothing
    finally:
        viewer.close()
    assert server_world.query("SELECT * FROM embedding_outbox:x") == [[]]
    assert server_world.failures()


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # within the SDK
def test_record_users_read_only_what_they_are_let(
    surreal: LocalServers, server_world: World
) -> None:
    """They see none of the tables, need no rights for the event, and may be let to read."""
    settings = server_world.settings
    with as_root(surreal, server_world) as root:
        root.query(
            "DEFINE TABLE OVERWRITE repo PERMISSIONS FULL; DEFINE TABLE person; "
            "DEFINE ACCESS people ON DATABASE TYPE RECORD SIGNUP (CREATE person) "
            "SIGNIN (SELECT * FROM person)"
        )
    vectors = f"SELECT text_hash FROM {server_world.table}"
    with Surreal(settings.db_url) as person:
        person.signup(
            {
                "namespace": settings.db_namespace,
                "database": settings.db_database,
                "access": "people",
                "variables": {},
            }
        )
        person.create(RecordID("repo", "by/person"), {"full_name": "by/person"})
        assert person.query("SELECT * FROM embedding_outbox") == []
        assert person.query(vectors) == []
        server_world.query(re.findall(r"^ALTER .*", PAGE, re.MULTILINE)[0])
        assert len(person.query(vectors)) == 3
    assert "by/person" in [entry.key for entry in server_world.outbox(Lane.FRESH)]


def test_a_reconcile_finds_what_surreal_import_wrote(
    surreal: LocalServers, server_world: World, tmp_path: Path
) -> None:
    file = tmp_path / "rows.surql"
    file.write_text(
        "OPTION IMPORT;\n"
        "INSERT [{ id: repo:⟨by/import⟩, full_name: 'by/import' }];\n"
        "DELETE repo:⟨rq/rq⟩;\n",
        encoding="utf-8",
    )
    _surreal(surreal, server_world.settings.db_database, "import", file)
    pending = server_world.outbox()
    assert "by/import" not in [entry.key for entry in pending]
    _reconcile(server_world)
    found = {entry.key for entry in server_world.outbox(Lane.BACKFILL)}
    assert {"by/import", "rq/rq"} <= found
    assert not {"celery/celery", "pallets/flask", "no/text"} & found


def test_a_restored_export_has_its_vectors(
    surreal: LocalServers, server_world: World, redis_url: str, tmp_path: Path
) -> None:
    server_world.lose(server_world.claim())
    file = tmp_path / "all.surql"
    _surreal(surreal, server_world.settings.db_database, "export", file)
    values: dict[str, Any] = {**fresh_database(surreal), "redis_url": redis_url}
    settings = load_settings(_env_file=None, **values)
    _surreal(surreal, settings.db_database, "import", file)
    restored = World(settings)
    try:
        assert restored.vectors() == server_world.vectors()
        _reconcile(restored)
        assert {entry.key for entry in restored.outbox()} == {"being/embedded", "new/fresh"}
        restored.write("after/it", full_name="after/it")
        assert "after/it" in [entry.key for entry in restored.outbox(Lane.FRESH)]
    finally:
        restored.close()


def _surreal(servers: LocalServers, database: str, action: str, file: Path) -> None:
    """`surreal import` or `surreal export`, as root."""
    target = root_target(servers, database)
    where = ["--endpoint", target.url.replace("ws", "http", 1)]
    who = ["--user", target.user, "--pass", target.password]
    which = ["--namespace", target.namespace, "--database", database]
    subprocess.run(
        [find_surreal(), action, *where, *who, *which, file], check=True, capture_output=True
    )


def _reconcile(world: World) -> None:
    reconciler = world.services.reconciler
    walk = reconciler.begin()
    while walk.phase is not Phase.DONE:
        walk = reconciler.step(walk)


def test_the_page_lists_the_fields_of_every_table(docs_world: World) -> None:
    """The fields that records have, and those documented: the same."""
    there: dict[str, set[str]] = defaultdict(set)
    titles = {
        docs_world.space.table: "The vector table of a space",
        docs_world.space.passages_table: "The passages of a space",
    }

    def look() -> None:
        (info,) = docs_world.query("INFO FOR DB")
        for table in info["tables"]:
            if table != "repo":
                title = titles.get(table, f"`{table}`")
                rows = docs_world.query("SELECT * FROM type::table($t)", t=table)[0]
                there[title].update(*rows)

    docs_world.services.gateway.ask_canary(Unclaimed())  # which records what answered
    reconciler = docs_world.services.reconciler
    walk = reconciler.begin()
    while walk.phase is not Phase.DONE:
        walk = reconciler.step(walk)
        look()
    assert {title: fields for title, fields in there.items() if fields} == documented_fields()
