"""Each runbook, followed on a real stack in the state that it is for."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embed_star.devstack.processes import Child
from embed_star.devstack.servers import free_port
from embed_star.produce.leadership import LEASE_KEY
from embed_star.store.bootstrap import bootstrap
from embed_star.store.client.connection import Connection
from tests.support.fleet import Fleet, Tenant
from tests.support.runbook import FOLDER, Runbook
from tests.support.servers import eventually, find_surreal, is_listening

PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")
SETTINGS = {"BREAKER_OPEN_S": "2", "MONITORING_HOST": "127.0.0.1", "SWEEP_INTERVAL_S": "2"}

pytestmark = pytest.mark.timeout(300)

OpenBook = Callable[..., "Case"]


class Case:
    """A runbook, and the tenant that is in its state."""

    def __init__(self, page: str, tenant: Tenant, folder: Path) -> None:
        self.tenant = tenant
        self.lab = tenant.lab
        self.provider = tenant.provider
        self.port = free_port()
        """Of the process that the runbook asks."""
        root = tenant.root_target()
        self.book = Runbook(
            page,
            {
                **tenant.env,
                "MONITORING_PORT": str(self.port),
                "SURREAL_USER": root.user,
                "SURREAL_PASS": root.password,
                "PATH": f"{find_surreal().parent}:{os.environ['PATH']}",
            },
            folder,
        )

    def worker(self, **env: str) -> Child:
        """A worker, which the runbook asks."""
        return self.tenant.worker(MONITORING_PORT=str(self.port), **env)

    def producer(self, **env: str) -> Child:
        return self.tenant.producer(MONITORING_PORT="0", **env)

    def run_fleet(self) -> None:
        self.worker()
        self.producer()

    def pend(self, rows: int = 20) -> None:
        """So many rows are written."""
        self.lab.insert(rows)

    @contextmanager
    def as_root(self) -> Iterator[Connection]:
        """A connection as the root user, on the tenant's database."""
        connection = Connection(self.tenant.root_target())
        try:
            yield connection
        finally:
            connection.close()

    def await_paused(self) -> None:
        """The fleet has noticed that the provider fails."""
        breaker = self.lab.services.breaker
        eventually(lambda: breaker.state().phase.value != "closed", "the provider is paused", 30.0)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), memory=False, cold=True) as fleet:
        yield fleet


@pytest.fixture
def open_book(fleet: Fleet, tmp_path: Path) -> Iterator[OpenBook]:
    """Makes a tenant for a page; its processes are gone afterwards."""
    made: list[Case] = []

    def open_book(page: str, **env: str) -> Case:
        fleet.provider.reset()
        made.append(Case(page, fleet.tenant(**{**SETTINGS, **env}), tmp_path))
        return made[-1]

    yield open_book
    for case in made:
        case.tenant.stop()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_followed_by_a_test_and_listed(page: str) -> None:
    assert f'open_book("{page}"' in Path(__file__).read_text(encoding="utf-8")
    assert f"({page}.md)" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_freshness_late(open_book: OpenBook) -> None:
    case = open_book("freshness-late")
    case.producer()
    case.pend()
    case.book.see()
    case.worker()
    case.book.await_over()


def test_backlog_stalled(open_book: OpenBook) -> None:
    case = open_book("backlog-stalled")
    stuck = case.worker()
    os.kill(stuck.pid, signal.SIGSTOP)
    case.producer()
    case.pend()
    case.book.see()
    stuck.kill()
    stuck.ended.wait()
    case.worker()
    case.book.await_over()


def test_backlog_growing(open_book: OpenBook) -> None:
    case = open_book("backlog-growing", PARALLEL_WORKERS="1")
    case.provider.script(latency_ms=500)
    case.worker()
    case.producer()
    case.pend(300)
    case.lab.await_asked()
    case.book.see()
    case.book.do()
    case.tenant.worker(MONITORING_PORT="0", PARALLEL_WORKERS="4")
    case.book.await_over()


def test_poison_rows(open_book: OpenBook) -> None:
    case = open_book("poison-rows")
    case.provider.script(poison="unspeakable")
    case.run_fleet()
    case.lab.insert(5, description="unspeakable")
    case.lab.insert(20)
    case.lab.await_quiet()
    case.book.see()
    case.provider.script(poison=None)
    case.book.do()
    case.book.await_over()
    case.lab.await_quiet()  # a reconcile may have put rows into the other lane, too
    case.lab.report().assert_kept()


def test_no_workers(open_book: OpenBook) -> None:
    case = open_book("no-workers")
    case.producer()
    case.pend()
    case.book.see()
    case.book.follow("What it means")
    case.worker()
    case.book.await_over()


def test_no_leader(open_book: OpenBook) -> None:
    """What is asked is a producer that stands by, since one that hangs holds the lease."""
    case = open_book("no-leader")
    locks = case.lab.services.leases
    assert locks.acquire([LEASE_KEY], "one that hangs", 300.0) == [True]
    case.tenant.worker(MONITORING_PORT="0")
    case.tenant.producer(MONITORING_PORT=str(case.port))
    eventually(lambda: is_listening(case.port), "it answers", 30.0)
    case.pend()
    case.book.see()
    case.book.do()
    locks.release([LEASE_KEY], "one that hangs")
    case.book.await_over()


def test_process_down(open_book: OpenBook) -> None:
    case = open_book("process-down")
    case.book.see()
    case.worker()
    case.book.await_over()


def test_memory_high(open_book: OpenBook) -> None:
    case = open_book("memory-high")
    worker = case.worker()
    case.book.see()
    worker.stop(20.0)
    case.worker()
    case.book.await_over()


def test_safety_net(open_book: OpenBook) -> None:
    case = open_book("safety-net")
    case.worker()
    (info,) = case.lab.query("INFO FOR TABLE repo")
    case.lab.query("REMOVE EVENT embedding_outbox ON TABLE repo")
    case.lab.insert(20)
    case.lab.query(info["events"]["embedding_outbox"])
    case.book.see()
    case.book.do()
    case.tenant.beat(MONITORING_PORT="0")  # no producer: the sweep does it
    case.book.await_over()


def test_key_revoked(open_book: OpenBook) -> None:
    case = open_book("key-revoked", OPENAI_API_KEY="the-old-key")
    case.provider.script(auth="the-new-key")
    case.run_fleet()
    case.pend()
    case.await_paused()
    case.book.see()
    case.book.do()
    case.tenant.stop()
    case.worker(OPENAI_API_KEY="the-new-key")
    case.producer(OPENAI_API_KEY="the-new-key")
    case.book.await_over(OPENAI_API_KEY="the-new-key")


def test_provider_down(open_book: OpenBook) -> None:
    case = open_book("provider-down")
    case.provider.script(fail_next=-1, status=503)
    case.run_fleet()
    case.pend()
    case.await_paused()
    case.book.see()
    case.provider.script(fail_next=0)
    case.book.await_over()


def test_provider_throttles(open_book: OpenBook) -> None:
    case = open_book("provider-throttles")
    case.provider.script(fail_next=5, status=429, retry_after="1")
    case.run_fleet()
    case.pend()
    case.lab.await_quiet()
    assert not re.search(r"rate_limits_total\{.*\} 0\.0", case.book.see())
    case.book.await_over()


def test_cost_high(open_book: OpenBook) -> None:
    case = open_book("cost-high")
    case.run_fleet()
    case.lab.insert(20)
    case.lab.await_quiet()
    assert not re.search(r"tokens_total\{.*\} 0\.0", case.book.see())
    stop, go_on = case.book.steps("What to do")
    case.book.type(stop)
    paid = case.provider.stats()["texts"]
    case.pend()
    eventually(lambda: case.lab.services.ledger.counts().queued == 20, "the rows are queued", 30.0)
    assert case.provider.stats()["texts"] == paid
    case.book.type(go_on)
    case.book.await_over()


def test_database_away(open_book: OpenBook, fleet: Fleet) -> None:
    case = open_book("database-away")
    case.run_fleet()
    case.provider.script(latency_ms=500)
    case.pend(60)
    case.lab.await_asked()
    fleet.servers.stop_server("surrealdb", grace_s=0.0)
    try:
        case.book.see()
    finally:
        fleet.servers.start_server("surrealdb")
    case.lab.services.store.database.pool.recycle()  # our own connections broke, too
    case.book.await_over()
    case.lab.await_quiet()  # a reconcile may have put rows into the other lane, too
    case.lab.report().assert_kept()


def test_redis_lost(open_book: OpenBook, fleet: Fleet) -> None:
    case = open_book("redis-lost")
    case.run_fleet()
    case.provider.script(latency_ms=500)
    case.pend(60)
    case.lab.await_asked()
    fleet.servers.stop_server("redis", grace_s=0.0)
    try:
        shutil.rmtree(fleet.servers.data.folder("redis"))
        case.book.see()
    finally:
        fleet.servers.data.folder("redis")
        fleet.servers.start_server("redis")
    case.book.await_over()
    case.lab.await_quiet()  # a reconcile may have put rows into the other lane, too
    case.lab.report().assert_kept(paid_again=60, hits=1)


def test_database_full(open_book: OpenBook, fleet: Fleet) -> None:
    """Of what the page is for, the user that lost its rights, and gets them back."""
    case = open_book("database-full")
    user = case.tenant.settings.db_user
    password = case.tenant.settings.db_pass.get_secret_value()
    with case.as_root() as root:
        root.query(f"DEFINE USER OVERWRITE {user} ON DATABASE PASSWORD '{password}' ROLES VIEWER")
        root.query("CREATE repo SET full_name = 'a/b'")
    case.book.see()
    bootstrap(case.tenant.root_target(), user, password)
    case.run_fleet()
    case.book.await_over()


def test_pool_exhausted(open_book: OpenBook) -> None:
    case = open_book("pool-exhausted")
    case.worker()
    case.book.see()
    case.book.await_over()


def test_queue_old(open_book: OpenBook) -> None:
    case = open_book("queue-old")
    case.run_fleet()
    with case.tenant.app() as app:
        app.control.cancel_consumer("embed", reply=True)
    case.pend()
    eventually(lambda: case.lab.services.ledger.counts().queued == 20, "the rows are queued", 30.0)
    assert "'embed'" not in case.book.see()
    case.book.do()
    case.book.await_over()


def test_model_change(open_book: OpenBook) -> None:
    case = open_book("model-change")
    case.run_fleet()
    case.lab.insert(20)
    case.lab.await_quiet()
    new = {"EMBEDDING_MODEL": f"{case.tenant.settings.model}-new"}
    case.book.follow("Before", **new)
    case.tenant.stop()
    migrate, reconcile = case.book.steps("What to do")
    case.book.type(migrate, **new)
    case.worker(**new)
    case.producer(**new)
    case.book.type(reconcile, **new)
    case.book.await_over(**new)
    found = case.book.follow("It is over when", **new)
    assert re.search(r"embedded +20", found)
    assert "-new" in found


def test_upgrade(open_book: OpenBook) -> None:
    case = open_book("upgrade")
    old = case.worker()
    producer = case.producer()
    case.lab.insert(20)
    case.lab.await_quiet()
    case.book.follow("Before")
    case.book.do()
    case.pend()
    case.port = free_port()
    for process in (old, producer):
        process.stop(20.0)
    case.run_fleet()
    case.book.await_over()
    case.lab.await_quiet()  # a reconcile may have put rows into the other lane, too
    case.lab.report().assert_kept()


def test_rollback(open_book: OpenBook) -> None:
    case = open_book("rollback")
    case.book.follow("Before")
    case.book.do()
    case.run_fleet()
    case.pend()
    case.book.await_over()


def test_disaster_recovery(open_book: OpenBook, fleet: Fleet) -> None:
    case = open_book("disaster-recovery", **fleet.servers.root_environment)
    case.run_fleet()
    case.lab.insert(25)
    case.lab.await_quiet()
    case.tenant.stop()
    case.book.follow("Before")
    with case.as_root() as root:
        root.query(f"REMOVE DATABASE {case.tenant.settings.db_database}")
        root.query(f"DEFINE DATABASE {case.tenant.settings.db_database}")
    restore, *prepare, reconcile = case.book.steps("What to do")
    case.book.type(restore)
    for step in prepare:
        case.book.type(step)
    case.lab.services.redis.flushall()  # the cache knows no vector either
    paid = case.provider.stats()["texts"]
    case.run_fleet()
    case.lab.insert(5)
    case.book.type(reconcile)
    case.book.await_over()
    assert case.provider.stats()["texts"] == paid + 5
