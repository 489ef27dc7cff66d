"""Canary keys: a real fleet goes through faults, and then they are looked for everywhere."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest
import redis
from celery import Celery

from embed_star.devstack.servers import free_port
from tests.support.command_line import CELERY, EMBED_STAR, run_warm
from tests.support.fleet import Fleet, Tenant
from tests.support.flower import Site, flower
from tests.support.servers import eventually

ROWS = 30
QUICK = {"BREAKER_OPEN_S": "0.5", "SWEEP_INTERVAL_S": "2", "LOG_LEVEL": "DEBUG"}


def canary(name: str) -> str:
    return f"canary-{name}-{secrets.token_hex(12)}"


KEYS = {
    "OPENAI_API_KEY": canary("openai"),
    "TOGETHER_API_KEY": canary("together"),
    "GITHUB_TOKEN": canary("github"),
}
WRONG = {
    "the provider's URL": canary("in-a-url"),
    "a wrong DB_PASS": canary("database"),
    "a wrong Redis password": canary("redis"),
}


@dataclass
class Heap:
    """All that was said anywhere, by where."""

    said: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: str) -> None:
        self.said[where] = self.said.get(where, "") + text

    def found(self, canaries: Mapping[str, str]) -> list[str]:
        return [
            f"{name} in {where}"
            for where, text in self.said.items()
            for name, value in canaries.items()
            if value in text
        ]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def canaries(fleet: Fleet) -> dict[str, str]:
    """Name → value of everything that must not be seen."""
    servers = fleet.servers
    password = servers.redis_url.partition("//:")[2].partition("@")[0]
    return {
        **KEYS,
        **WRONG,
        "DB_PASS": fleet.environment()["DB_PASS"],
        "ROOT_DB_PASS": servers.root_environment["ROOT_DB_PASS"],
        "Redis' password": password,
    }


@contextmanager
def listening(app: Celery, heap: Heap) -> Iterator[None]:
    """Every event that workers send goes onto the heap."""
    with app.connection() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"*": lambda event: heap.add("Celery's events", repr(event))}
        )
        thread = Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": True})
        thread.daemon = True
        thread.start()
        yield
        receiver.should_stop = True
        thread.join(5)


def all_logs(tenant: Tenant) -> str:
    logs = (tenant.servers.data.path / "logs").glob("*.log")
    return "".join(log.read_text(errors="replace") for log in logs)


def through_faults(tenant: Tenant) -> None:
    """The provider does its worst, and then is well again."""
    provider, lab = tenant.provider, tenant.lab
    lab.insert(ROWS)
    lab.await_quiet()  # so that it is known which model is the space's
    usual: dict[str, Any] = {
        "auth": KEYS["OPENAI_API_KEY"],
        "model": None,
        "salt": "",
        "fault": None,
    }
    for script in (
        {"auth": "somebody else's"},
        {"fail_next": 2, "status": 500, "error": {"message": KEYS["OPENAI_API_KEY"]}},
        {"fault": "reset", "fault_next": 2},
        {"fault": "redirect", "fault_next": 1, "location": "http://127.0.0.1:9/v1/embeddings"},
        {"fault": "html", "fault_next": 1},
        {"model": "another-model", "salt": "another"},
    ):
        calls = provider.stats()["calls"]
        provider.script(**{**usual, **script})
        lab.insert(ROWS)
        eventually(lambda calls=calls: provider.stats()["calls"] > calls, "it is asked", 20)
    # A call that was asked for may have been under way before; what is logged was not.
    eventually(lambda: "another-model" in all_logs(tenant), "the other model is noticed", 20)
    provider.script(**usual)
    lab.await_quiet()


def commands(tenant: Tenant, heap: Heap) -> None:
    """What people run to look into it, also with settings that are wrong."""
    redis_port = free_port()
    in_a_url, login = WRONG["the provider's URL"], WRONG["a wrong Redis password"]
    wrong = {
        "": {},
        "a bad URL": {"OPENAI_BASE_URL": f"http://u:{in_a_url}@127.0.0.1:9/v1"},
        "a URL that is none": {"OPENAI_BASE_URL": f"http//u:{in_a_url}@x"},
        "a wrong password": {"DB_PASS": WRONG["a wrong DB_PASS"]},
        "no Redis": {"REDIS_URL": f"redis://:{login}@127.0.0.1:{redis_port}/0"},
        "another Redis password": {
            "REDIS_URL": f"redis://:{login}@127.0.0.1:{tenant.servers.ports['redis']}/0"
        },
    }
    for why, env in wrong.items():
        done = run_warm(*EMBED_STAR, "doctor", "--json", env={**tenant.env, **env})
        assert (done.code == 0) == (not env), (why, done)
        heap.add(f"doctor with {why}", done.out + done.err)
    for argv in (
        (*EMBED_STAR, "status", "--json"),
        (*EMBED_STAR, "failures"),
        (*EMBED_STAR, "search", "subject"),
        (*CELERY, "report"),
        (*CELERY, "inspect", "conf"),
    ):
        done = run_warm(*argv, env=tenant.env)
        assert done.code == 0, (argv, done.err)
        heap.add(" ".join(argv[-2:]), done.out + done.err)
    with tenant.app() as app:
        ask = app.control.inspect()
        for question in ("stats", "registered", "active", "scheduled", "reserved", "report"):
            answers = getattr(ask, question)()
            assert answers, question
            heap.add(f"inspect {question}", repr(answers))
    for why in ("a wrong password", "no Redis", "another Redis password"):
        child = tenant.start(f"worker with {why}", *CELERY, "worker", **wrong[why])
        eventually(lambda c=child: len(c.output()) > 200 or c.ended.is_set(), "it says why", 30)
        child.ended.wait(3)
        child.terminate()


def everything_in_redis(url: str) -> str:
    said = []
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            kind = client.type(key)
            read = {
                b"string": client.get,
                b"hash": client.hgetall,
                b"list": lambda k: client.lrange(k, 0, -1),
                b"set": client.smembers,
                b"zset": lambda k: client.zrange(k, 0, -1),
            }[kind]
            said.append(repr((key, read(key))))
    assert said
    return "\n".join(said)


def everything_in_the_database(tenant: Tenant) -> str:
    (info,) = tenant.lab.query("INFO FOR DB")
    tables = [tenant.lab.query(f"SELECT * OMIT vector FROM `{name}`") for name in info["tables"]]
    return repr((info["tables"], tables))


def pages(site: Site, heap: Heap) -> None:
    for path in (
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/api/workers?refresh=1",
        "/api/tasks",
        "/metrics",
    ):
        answer = site.get(path).decode()
        assert answer
        heap.add(f"Flower's {path}", answer)


pytestmark = pytest.mark.timeout(300)  # on a busy machine


@pytest.fixture(scope="module")
def heap(fleet: Fleet) -> Heap:
    heap = Heap()
    tenant = fleet.tenant(**KEYS, **QUICK)
    tenant.provider.script(auth=KEYS["OPENAI_API_KEY"])
    ports = [free_port(), free_port()]
    tenant.worker("-E", MONITORING_PORT=str(ports[0]))
    tenant.worker("-E", "-P", "processes", LOG_FORMAT="console", MONITORING_PORT=str(ports[1]))
    tenant.producer()
    tenant.beat()
    with tenant.app() as app, listening(app, heap), flower(tenant) as site:
        through_faults(tenant)
        # Bugs of ours, with tracebacks.
        app.send_task("embed_star.store_embeddings", args=[[{"outcomes": [1]}]], queue="store")
        app.send_task("embed_star.embed_batch", args=[KEYS["TOGETHER_API_KEY"][:0]], queue="embed")
        eventually(lambda: "task-failed" in heap.said.get("Celery's events", ""), "it fails")
        heap.add("Redis", everything_in_redis(fleet.servers.redis_url))
        commands(tenant, heap)
        pages(site, heap)
        for port in ports:
            for path in ("metrics", "readyz", "livez"):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                    heap.add(f"/{path}", answer.read().decode())
    report = tenant.lab.report()
    assert report.embedded == report.rows > ROWS
    heap.add("the database", everything_in_the_database(tenant))
    heap.add("Redis", everything_in_redis(fleet.servers.redis_url))
    tenant.stop()
    for log in (tenant.servers.data.path / "logs").glob("*.log"):
        heap.add(f"the log {log.name}", log.read_text(errors="replace"))
    return heap


def test_no_key_is_seen_anywhere(heap: Heap, canaries: dict[str, str]) -> None:
    assert heap.found(canaries) == []


def test_of_this_test_all_is_on_the_heap(heap: Heap) -> None:
    """What was looked through is what it is called, and holds what faults leave."""
    logs = "".join(text for where, text in heap.said.items() if where.startswith("the log"))
    for word in ("provider_paused", "Traceback", "another-model", '"level": "debug"'):
        assert word in logs, word
    assert "refused the key" in logs or "OPENAI_API_KEY" in logs
    assert "task-succeeded" in heap.said["Celery's events"]
    assert "embed_star_" in heap.said["/metrics"]
    assert "embed_star:vector:" in heap.said["Redis"]
    assert "broker_url" in heap.said["inspect conf"]
    assert "embedding_space" in heap.said["the database"]
    assert heap.found({"a word": "scripted-tenant"}), "the model's name is no secret"


def test_the_key_arrived(fleet: Fleet, heap: Heap) -> None:
    """In the header, which is the one place for it: the provider refuses any other."""
    del heap
    assert [entry for entry in fleet.provider.ledger() if entry["paid"]]
