"""What real processes expose: the metrics and their values, and what the probes say.

One fleet for the module: with each pool, a tenant with a worker, a producer and beat.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from embed_star.devstack.processes import Child
from embed_star.devstack.servers import free_port
from tests.support.command_line import CELERY, EMBED_STAR
from tests.support.fleet import START_S, Fleet, Tenant
from tests.support.impatient import LIVENESS_S
from tests.support.metrics_page import Scrape, documented_for, exposed, get
from tests.support.servers import eventually

ROWS = 20
POOLS = {"threads": (), "processes": ("-P", "processes", "-c", "3")}
_IMPATIENT = (sys.executable, "-m", "tests.support.impatient")
IMPATIENT_CELERY = (*_IMPATIENT, *CELERY[2:])
IMPATIENT_EMBED_STAR = (*_IMPATIENT, *EMBED_STAR[2:])
PROCESSES = ("worker", "producer", "beat")
POISON = "deadly"


@dataclass(frozen=True, slots=True)
class Side:
    """A tenant and its processes by name, each with the port it is monitored on."""

    pool: str
    tenant: Tenant
    children: dict[str, Child]
    ports: dict[str, int]

    def scrape(self, process: str) -> Scrape:
        return Scrape(self.ports[process])

    def probe(self, process: str, path: str) -> tuple[int, str]:
        return get(self.ports[process], path)

    def await_probe(self, process: str, path: str, status: int, *words: str) -> None:
        def answers() -> bool:
            got, body = self.probe(process, path)
            return got == status and all(word in body for word in words)

        eventually(answers, f"{process}'s {path} answers {status} {words}", START_S)


def start(
    fleet: Fleet, pool: str, *options: str, processes: tuple[str, ...] = PROCESSES, **env: str
) -> Side:
    own = {"BATCH_SIZE": "5", "SWEEP_INTERVAL_S": "1", **env}
    tenant = fleet.tenant(**own)
    begin: dict[str, Callable[..., Child]] = {
        "worker": lambda **at: tenant.worker(*POOLS[pool], *options, celery=IMPATIENT_CELERY, **at),
        "producer": lambda **at: tenant.producer(embed_star=IMPATIENT_EMBED_STAR, **at),
        "beat": lambda **at: tenant.beat(celery=IMPATIENT_CELERY, **at),
    }
    ports = {name: free_port() for name in processes}
    children = {name: begin[name](MONITORING_PORT=str(port)) for name, port in ports.items()}
    side = Side(pool, tenant, children, ports)
    for name in ports:
        eventually(lambda name=name: _answers(side, name), f"{name} is ready", START_S)
    return side


def _answers(side: Side, name: str) -> bool:
    try:
        return side.probe(name, "/readyz")[0] == 200
    except OSError:
        assert not side.children[name].ended.is_set(), side.children[name].output()
        return False


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), memory=False) as running:
        yield running


@pytest.fixture(scope="module", params=list(POOLS))
def side(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Side]:
    fleet.provider.reset()
    made = start(
        fleet, request.param, PROVIDER_PRICE_PER_MILLION_TOKENS="250000", BREAKER_OPEN_S="2"
    )
    yield made
    made.tenant.stop()


@pytest.fixture(scope="module")
def calls(fleet: Fleet, side: Side) -> list[dict[str, Any]]:
    """After a run of rows, some of them cached, throttled, refused: the provider's ledger."""
    lab = side.tenant.lab
    fleet.provider.script(
        poison=POISON, fail_next=1, status=429, retry_after="1", constant="nothing"
    )
    keys = lab.insert(ROWS)
    lab.await_quiet()
    (before,) = lab.query("SELECT VALUE description FROM ONLY repo:0")
    lab.edit(keys[0], description="something else")
    lab.await_quiet()
    lab.edit(keys[0], description=before)  # its vector is in the cache
    lab.await_quiet()
    lab.insert(1, description=f"a {POISON} word")
    lab.insert(1, description="it says nothing")
    lab.await_quiet()
    side.tenant.lab.report().assert_kept(hits=1)
    model = side.tenant.settings.model
    return [one for one in fleet.provider.ledger() if one["model"] == model]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.usefixtures("calls")
def test_a_process_exposes_what_the_page_says_and_no_more(side: Side, process: str) -> None:
    # The parts that are read in the background are there a moment later. The first reconcile met
    # claimed rows; it ends with beat's next slice.
    within_s = START_S + 15.0
    wanted = {one.name: (one.type, one.labels) for one in documented_for(process)}
    eventually(lambda: exposed(side.scrape(process).families) == wanted, "all is exposed", within_s)


@pytest.mark.parametrize("process", PROCESSES)
def test_promtool_finds_no_fault(side: Side, process: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: it comes with Prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=side.scrape(process).text,
        capture_output=True,
        text=True,
    )
    ours = [line for line in done.stderr.splitlines() if "embed_star" in line]
    assert ours == [], done.stderr


def test_a_worker_counts_what_it_did(side: Side, calls: list[dict[str, Any]]) -> None:
    def value(name: str, **labels: str) -> float | None:
        return scrape.value(name, **labels)

    by_status = Counter(one["status"] for one in calls)
    good = [one["texts"] for one in calls if one["status"] == 200]
    embedded = ROWS + 1
    eventually(
        lambda: side.scrape("worker").value("rows_total", outcome="failed") == 2,
        "the children's last counts are there",
    )
    scrape = side.scrape("worker")
    assert value("provider_requests_total", outcome="ok") == by_status[200]
    assert value("provider_requests_total", outcome="throttled") == by_status[429] == 1
    assert value("provider_requests_total", outcome="rejected") == by_status[400] >= 1
    assert value("provider_requests_total") == len(calls)
    assert value("embedding_duration_seconds_count") == len(calls)
    assert value("rate_limits_total", provider="openai") == 1
    tokens = sum(sum(map(len, texts)) // 4 + len(texts) for texts in good)
    assert value("provider_tokens_total") == tokens
    assert value("provider_cost_dollars_total") == pytest.approx(tokens / 4)
    assert value("embeddings_total") == embedded
    assert value("embedding_validations_total", result="ok") == embedded
    assert value("embedding_validations_total", result="constant") == 1
    assert value("embeddings_errors_total", type="invalid") == 1
    assert value("embeddings_errors_total", type="throttled") == 5
    refused = sum(len(one["texts"]) for one in calls if one["status"] == 400)
    assert value("embeddings_errors_total", type="rejected") == refused
    assert value("rows_total", outcome="embedded") == embedded
    assert value("rows_total", outcome="cached") == 1
    assert value("rows_total", outcome="failed") == 2
    assert value("cache_hits_total") == 1
    unchanged = value("rows_total", outcome="unchanged") or 0
    assert value("reembeddings_avoided_total") == 1 + unchanged
    assert value("retry_attempts_total", task="embed_star.embed_batch") == 1
    assert value("freshness_seconds_count") == embedded + 1
    assert 1.0 < (value("freshness_seconds_sum") or 0) < 60 * ROWS
    assert (value("pool_connections_created_total") or 0) >= 1
    assert value("pool_connection_errors_total") == 0
    assert value("build_info") == 1


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("process", ["producer", "beat"])
def test_the_fleets_gauges_are_those_of_the_database(side: Side, process: str) -> None:
    def settled() -> bool:
        scrape = side.scrape(process)
        return scrape.value("repos_failed") == 2 and scrape.value("repos_in_flight") == 0

    eventually(settled, "a fresh reading")
    scrape = side.scrape(process)
    assert scrape.value("repos_embedded") == ROWS
    assert scrape.value("repos_failed", reason="rejected") == 1
    assert scrape.value("repos_failed", reason="constant") == 1
    assert scrape.value("repos_pending") == 0  # rows that cannot be embedded are not
    assert scrape.value("oldest_pending_seconds") == 0
    assert scrape.value("scaling_backlog_rows") == 0
    assert scrape.value("circuit_breaker_state") == 0
    assert scrape.value("source_up") == 2
    assert scrape.value("scrape_errors_total") == 0
    for name in ("last_sweep_timestamp_seconds", "last_reconcile_timestamp_seconds"):
        assert abs((scrape.value(name) or 0) - time.time()) < 60, name


@pytest.mark.usefixtures("calls")
def test_a_producer_leads_and_counts(side: Side) -> None:
    scrape = side.scrape("producer")
    assert scrape.value("leader") == 1
    assert (scrape.value("rows_dispatched_total", lane="fresh") or 0) >= ROWS + 4


def test_work_that_waits_is_seen(fleet: Fleet, side: Side) -> None:
    """Rows under way and queued, their age, and the backlog that more workers would help with."""
    lab = side.tenant.lab
    fleet.provider.script(latency_ms=1500, fail_next=0)
    lab.insert(200)
    lab.await_asked(3)

    def waits() -> bool:
        scrape = side.scrape("beat")
        names = (
            *("repos_pending", "oldest_pending_seconds", "repos_in_flight", "repos_queued"),
            *("queue_messages", "queue_oldest_seconds", "queue_unacked_messages"),
            *("chord_oldest_seconds", "scaling_backlog_rows"),
        )
        return all((scrape.value(name) or 0) > 0 for name in names)

    eventually(waits, "what waits is seen", START_S)
    assert (side.scrape("beat").value("queue_messages", queue="embed") or 0) > 0
    fleet.provider.script(latency_ms=0)
    lab.await_quiet()


def test_a_paused_provider_is_seen_and_is_no_reason_to_scale_or_to_restart(
    fleet: Fleet, side: Side
) -> None:
    lab = side.tenant.lab
    fleet.provider.script(fail_next=-1, status=401)
    lab.insert(30)

    def paused() -> bool:
        scrape = side.scrape("producer")
        return scrape.value("circuit_breaker_state") == 1 and scrape.value("repos_pending") == 30

    eventually(paused, "the pause is seen", START_S)
    assert side.scrape("producer").value("scaling_backlog_rows") == 0
    for process in side.ports:
        assert side.probe(process, "/livez")[0] == side.probe(process, "/readyz")[0] == 200
    assert (side.scrape("worker").value("provider_requests_total", outcome="auth") or 0) >= 1
    fleet.provider.script(fail_next=0)
    lab.await_quiet()


def _children_of(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


def test_a_child_that_is_killed_is_cleared_and_what_it_counted_stays(
    fleet: Fleet, side: Side
) -> None:
    if side.pool != "processes":
        pytest.skip("threads are not killed one by one")

    def value(name: str) -> float:
        return side.scrape("worker").value(name) or 0

    eventually(lambda: value("pool_connections_idle") >= 3, "the children are connected")
    before = side.scrape("worker")
    victims = _children_of(side.children["worker"].pid)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: len(set(_children_of(side.children["worker"].pid)) - set(victims)) == 3,
        "there are new children",
    )

    side.tenant.lab.insert(30)
    side.tenant.lab.await_quiet()
    created = "pool_connections_created_total"
    enough = (before.value(created) or 0) + 2
    eventually(lambda: value(created) >= enough, "the new ones are connected")
    # One a process, and the main one's: the dead hold none.
    eventually(lambda: 3 <= value("pool_connections_idle") <= 4, "the dead hold none")
    after = side.scrape("worker")
    for name in ("embeddings_total", "provider_tokens_total", "pool_connections_created_total"):
        assert (after.value(name) or 0) >= (before.value(name) or 0) > 0, name
    eventually(lambda: side.probe("worker", "/livez")[0] == 200, "the new ones live")


def test_redis_away_makes_unready_and_restarts_nobody(fleet: Fleet, side: Side) -> None:
    fleet.servers.stop_server("redis")
    for process in side.ports:
        side.await_probe(process, "/readyz", 503, "redis")
    began = time.monotonic()
    while time.monotonic() - began < 3 * LIVENESS_S:  # what is observed takes this long
        for process in side.ports:
            assert side.probe(process, "/livez") == (200, '{"live": true}\n'), process
        time.sleep(0.2)
    scrape = side.scrape("beat")
    assert scrape.value("source_up", source="redis") == 0
    assert scrape.value("repos_in_flight") is None
    assert scrape.value("scaling_backlog_rows") is None
    assert scrape.value("repos_embedded") is not None
    fleet.servers.start_server("redis")
    for process in side.ports:
        side.await_probe(process, "/readyz", 200)


def test_the_database_away_makes_unready_and_restarts_nobody(fleet: Fleet, side: Side) -> None:
    fleet.servers.stop_server("surrealdb")
    for process in ("worker", "producer"):
        side.await_probe(process, "/readyz", 503, "database")
    for process in side.ports:
        assert side.probe(process, "/livez")[0] == 200
    eventually(
        lambda: side.scrape("beat").value("source_up", source="database") == 0, "it is said", 20
    )
    assert side.scrape("beat").value("repos_pending") is None
    fleet.servers.start_server("surrealdb")
    for process in side.ports:
        side.await_probe(process, "/readyz", 200)
    assert (side.scrape("worker").value("pool_health_check_failures_total") or 0) >= 1


def test_a_child_that_is_stopped_shows(fleet: Fleet, side: Side) -> None:
    if side.pool != "processes":
        pytest.skip("a thread cannot be stopped")
    pid = _children_of(side.children["worker"].pid)[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        side.await_probe("worker", "/livez", 503, f"child {pid}")
    finally:
        os.kill(pid, signal.SIGCONT)
    side.await_probe("worker", "/livez", 200)


def test_a_loop_that_is_blocked_shows(fleet: Fleet) -> None:
    side = start(fleet, "threads", "-I", "tests.support.blocking", processes=("worker",))
    with side.tenant.app() as app:
        app.control.broadcast("block_loop", arguments={"seconds": 3 * LIVENESS_S})
    side.await_probe("worker", "/livez", 503, "consumer")
    side.await_probe("worker", "/livez", 200)
    side.tenant.stop()


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_does_not_end_shows(fleet: Fleet, pool: str) -> None:
    side = start(fleet, pool, "-I", "tests.support.blocking", processes=("worker",))
    longest_s = side.tenant.settings.visibility_timeout_s
    with side.tenant.app() as app:
        app.send_task("tests.block_task", args=[longest_s + 3])
    side.await_probe("worker", "/livez", 503, '"task": "has been running for')
    side.await_probe("worker", "/livez", 200)
    side.tenant.stop()


def test_a_port_that_is_taken_ends_a_process_with_one_line(fleet: Fleet, side: Side) -> None:
    port = side.ports["worker"]
    for child in (
        side.tenant.producer(MONITORING_PORT=str(port)),
        side.tenant.beat(MONITORING_PORT=str(port)),
        side.tenant.start("late", *CELERY, "worker", "-n", "late@%h", MONITORING_PORT=str(port)),
    ):
        assert child.ended.wait(START_S)
        lines = [line for line in child.output().splitlines() if line.startswith("embed-star: ")]
        assert len(lines) == 1, child.output()
        assert f"MONITORING_PORT: port {port} is taken; give each process" in lines[0]
        assert "Traceback" not in child.output()
        assert child.returncode


def test_the_files_of_the_children_go_with_the_worker(side: Side) -> None:
    if side.pool != "processes":
        pytest.skip("threads need no files")
    worker = side.children["worker"]
    environ = open(f"/proc/{_children_of(worker.pid)[0]}/maps").read()  # noqa: SIM115, PTH123
    folders = {
        line.split()[-1].rpartition("/")[0]
        for line in environ.splitlines()
        if "embed_star-metrics-" in line
    }
    (folder,) = folders
    assert os.stat(folder).st_mode & 0o77 == 0  # noqa: PTH116
    worker.stop(START_S)
    assert not os.path.exists(folder)  # noqa: PTH110
