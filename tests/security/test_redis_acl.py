"""The users of `deploy/redis/users.acl.example`: all that embed_star does, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from embed_star.devstack.redis_server import impatient_client
from embed_star.devstack.servers import free_port
from tests.support.command_line import CELERY, EMBED_STAR, run_warm
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.flower import flower
from tests.support.isolation import CHECKOUT
from tests.support.metrics_page import Scrape
from tests.support.redis_with import redis_with
from tests.support.servers import eventually

EXAMPLE = CHECKOUT / "deploy" / "redis" / "users.acl.example"
PASSWORD = secrets.token_hex(16)
ROWS = 60

COMMANDS = (
    (*EMBED_STAR, "status", "--json"),
    (*EMBED_STAR, "doctor"),
    (*EMBED_STAR, "search", "subject 7"),
    (*EMBED_STAR, "failures"),
    (*EMBED_STAR, "reconcile"),
    (*CELERY, "inspect", "active"),
)

ADMINISTRATION = """\
ACL LIST
ACL SETUSER embed_star allkeys
BGSAVE
CLIENT KILL TYPE normal
CLIENT LIST
CONFIG GET *
CONFIG SET maxmemory-policy allkeys-lru
DUMP embed_star:x
EVAL x 0
FLUSHALL
FLUSHDB
FUNCTION FLUSH
KEYS *
MODULE LIST
MONITOR
RANDOMKEY
RENAME embed_star:x embed_star:y
REPLICAOF NO ONE
SAVE
SCAN 0
SCRIPT FLUSH
SCRIPT KILL
SHUTDOWN NOSAVE
SLOWLOG GET
SORT embed_star:x
SWAPDB 0 1""".splitlines()


def rules(database: str, installation: str) -> dict[str, list[str]]:
    """User → its rules, for a database of that name and with a password of ours."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("CHANGE_ME", PASSWORD)
    lines = (
        text.replace("gitstars:stars:", f"gitstars:{database}:")
        .replace("INSTALLATION", installation)
        .splitlines()
    )
    return {words[1]: words[2:] for words in map(str.split, lines)}


def url_of(fleet: Fleet, user: str) -> str:
    port = fleet.servers.ports["redis"]
    return f"redis://{user}:{PASSWORD}@127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def admin(fleet: Fleet) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fleet.servers.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def tenant(fleet: Fleet, admin: redis.Redis) -> Iterator[Tenant]:
    """A database whose processes are the ACL's `embed_star`, and `embed_star_cache`."""
    url, cache = url_of(fleet, "embed_star"), url_of(fleet, "embed_star_cache")
    tenant = fleet.tenant(REDIS_URL=url, CACHE_URL=cache, SWEEP_INTERVAL_S="1")
    for user, rule in rules(tenant.settings.db_database, tenant.lab.services.installation).items():
        if user != "default":  # the fleet's own, with which it looks on
            admin.execute_command("ACL", "SETUSER", user, "reset", *rule)
    admin.execute_command("ACL", "LOG", "RESET")
    yield tenant
    tenant.close()


ASKED_IN_VAIN = "embed_star: command config|get"
"""The doctor asks whether Redis keeps anything, and does without an answer."""


def refused(admin: redis.Redis) -> list[str]:
    """What Redis has refused to anyone: user, reason, command or key."""
    entries: Any = admin.acl_log()
    found = [f"{one['username']}: {one['reason']} {one['object']}" for one in entries]
    return [one for one in found if one != ASKED_IN_VAIN]


def test_a_restart_loses_nothing_of_what_was_appended(tmp_path: Path) -> None:
    """What Redis appends is done again by the user `default`: with no rights, though nobody
    signs in as it, each MULTI … EXEC of the file was dropped."""
    acl = tmp_path / "users.acl"
    users = rules("stars", "one")
    acl.write_text("".join(f"user {name} {' '.join(rule)}\n" for name, rule in users.items()))
    lines = (f"aclfile {acl}", "appendonly yes", "appendfsync always")
    with redis_with(*lines, folder=tmp_path) as port:
        client = impatient_client(f"redis://embed_star:{PASSWORD}@127.0.0.1:{port}/0")
        with client, client.pipeline(transaction=True) as pipe:
            pipe.set("embed_star:kept", "1").hset("embed_star:too", "field", "2").execute()
    with redis_with(*lines, folder=tmp_path) as port:
        with impatient_client(f"redis://embed_star:{PASSWORD}@127.0.0.1:{port}/0") as client:
            assert client.get("embed_star:kept") == b"1"
            assert client.hget("embed_star:too", "field") == b"2"
        with (
            impatient_client(f"redis://127.0.0.1:{port}/0") as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_is_enough_for_the_whole_way(pool: str, tenant: Tenant, admin: redis.Redis) -> None:
    port = free_port()
    processes = [
        tenant.worker("-E", "-P", pool),
        tenant.producer(),
        tenant.beat(MONITORING_PORT=str(port)),
    ]
    tenant.lab.insert(ROWS)
    tenant.lab.await_quiet()
    eventually(lambda: "swept" in processes[0].output(), "beat's sweep has run")
    eventually(lambda: '"leading"' in processes[1].output(), "the producer has begun")
    assert Scrape(port).value("source_up", source="redis") == 1
    for argv in COMMANDS if pool == "threads" else ():
        done = run_warm(*argv, env=tenant.env)
        assert done.code == 0, (argv, done.out, done.err)
    tenant.stop()
    # The doctor asks whether Redis keeps anything on disk, and does without the answer.
    assert set(refused(admin)) <= {"embed_star: command config|get"}
    for process in processes:
        assert process.returncode == 0, process.output()
        assert not [one for one in log_lines(process) if one["level"] in ("error", "critical")]
    tenant.lab.report().assert_kept()


def test_is_enough_after_a_crash(tenant: Tenant, admin: redis.Redis) -> None:
    """What a killed worker had taken is given out again, by the next one."""
    worker = tenant.worker()
    tenant.provider.script(latency_ms=2000)
    rows = len(tenant.lab.insert(10))
    tenant.producer()
    tenant.lab.await_asked()
    worker.kill()
    worker.ended.wait()
    tenant.provider.reset()
    tenant.worker()
    tenant.lab.await_quiet()
    assert refused(admin) == []
    tenant.lab.report().assert_kept(paid_again=rows, hits=1)


def call(client: redis.Redis, *words: str) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


@pytest.mark.usefixtures("tenant")
@pytest.mark.parametrize("user", ["embed_star", "embed_star_cache", "embed_star_observer"])
def test_is_no_more(user: str, fleet: Fleet) -> None:
    with impatient_client(url_of(fleet, user)) as client:
        client.ping()
        for words in ADMINISTRATION:
            call(client, *words.split())
        call(client, "GET", "somebody:else")
        call(client, "SET", "somebody:else", "x")
        call(client, "PUBLISH", "somebody:else", "x")
        call(client, "SUBSCRIBE", "somebody:else")
        call(client, "PSUBSCRIBE", "*")


@pytest.mark.usefixtures("tenant")
def test_scripts_have_no_more_rights_than_their_user(fleet: Fleet) -> None:
    with impatient_client(url_of(fleet, "embed_star")) as client:
        for words in ("'FLUSHALL'", "'KEYS', '*'", "'SET', 'other', '1'"):
            script = client.register_script(f"return redis.call({words})")
            with pytest.raises(
                redis.exceptions.ResponseError, match=r"not allowed|can't|permission"
            ):
                script()


def test_the_cache_is_all_that_its_user_has(tenant: Tenant, fleet: Fleet) -> None:
    queue = tenant.lab.services.redis_prefix + "celery:embed"
    with impatient_client(url_of(fleet, "embed_star_cache")) as client:
        client.set("embed_star:vector:x:y", b"1", px=1000)
        call(client, "GET", queue)
        call(client, "LPUSH", "embed_star:vector:x", "x")
        call(client, "EVALSHA", "0" * 40, "0")
        call(client, "DEL", "embed_star:vector:x:y")


def test_the_observer_enqueues_nothing_and_takes_nothing(tenant: Tenant, fleet: Fleet) -> None:
    prefix = tenant.lab.services.redis_prefix
    with impatient_client(url_of(fleet, "embed_star_observer")) as client:
        assert client.llen(prefix + "celery:embed") == 0
        # What kombu asks for before it looks for messages: of 5.6, and of 5.5 in the exporter.
        index = prefix + "celery:unacked_index"
        assert client.zrange(index, 0, 1, byscore=True) == []
        assert client.zrevrangebyscore(index, 1, 0, start=0, num=10) == []
        call(client, "LPUSH", prefix + "celery:embed", "{}")
        call(client, "DEL", prefix + "celery:embed")
        call(client, "BRPOP", prefix + "celery:embed", "1")
        call(client, "SET", prefix + "lock:1", "x")
        call(client, "GET", "embed_star:vector:x:y")


def test_flower_runs_as_the_observer(tenant: Tenant, admin: redis.Redis, fleet: Fleet) -> None:
    url = url_of(fleet, "embed_star_observer")
    worker = tenant.worker("-E")
    # It has no business in the database.
    known = {"INSTALLATION_ID": tenant.lab.services.installation, "DB_PASS": "none"}
    with flower(tenant, REDIS_URL=url, CACHE_URL="", **known) as site:
        tenant.lab.insert(10)
        tenant.dispatch()
        tenant.lab.await_quiet()
        eventually(lambda: b"SUCCESS" in site.get("/api/tasks"), "Flower knows of a task")
        assert b"embed_star.embed_batch" in site.get("/api/workers?refresh=1")
        assert b'"embed"' in site.get("/api/queues/length")
    assert refused(admin) == []
    assert not worker.ended.is_set()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis that was started with the file, as it is but for the password."""
    file = tmp_path_factory.mktemp("redis") / "users.acl"
    file.write_text(EXAMPLE.read_text(encoding="utf-8").replace("CHANGE_ME", PASSWORD))
    with redis_with(f"aclfile {file}") as port:
        yield port


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("", "Authentication required|already authenticated"),
        (":CHANGE_ME@", "WRONGPASS|invalid username-password"),
        (f":{PASSWORD}@", "WRONGPASS|invalid username-password"),
        ("embed_star:CHANGE_ME@", "WRONGPASS|invalid username-password"),
        (f"default:{PASSWORD}@", "WRONGPASS|invalid username-password"),
    ],
    ids=["nobody", "no name", "the password", "the example's", "default"],
)
def test_strangers_are_refused(login: str, says: str, locked: int) -> None:
    with (
        impatient_client(f"redis://{login}127.0.0.1:{locked}/0") as client,
        pytest.raises(redis.AuthenticationError, match=says),
    ):
        client.ping()


@pytest.mark.parametrize("user", ["embed_star", "embed_star_cache", "embed_star_observer"])
def test_users_are_let_in(user: str, locked: int) -> None:
    with impatient_client(f"redis://{user}:{PASSWORD}@127.0.0.1:{locked}/0") as client:
        assert client.ping()
