"""Each way of starting a worker that Celery offers works, or says in one sentence why not."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_star.devstack.processes import Child
from embed_star.devstack.servers import free_port
from tests.support.command_line import CELERY, Finished, celery
from tests.support.fleet import STOP_S, Fleet, Tenant, log_lines
from tests.support.metrics_page import get
from tests.support.servers import eventually

ROWS = 20

PROCESSES = ("processes", "prefork")

WORKS = {
    "solo": ("-P", "solo"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "processes that come and go": ("-P", "processes", "--autoscale=3,1"),
    "a process for each task": ("-P", "processes", "-c", "2", "--max-tasks-per-child=1"),
    "a process for each task, by memory": ("-P", "processes", "--max-memory-per-child=1"),
    "processes with a time limit": ("-P", "processes", "--time-limit=60", "-O", "fair", "-E"),
    "no concurrency": ("-c", "0"),
    "one thread": ("-P", "threads", "-c", "1", "-E"),
    "beat in the worker": ("-B",),
    "alone": ("--without-gossip", "--without-mingle", "--without-heartbeat"),
    "much prefetched": ("--prefetch-multiplier=10", "--max-tasks-per-child=1", "--time-limit=60"),
    "without a queue": ("-X", "sweep"),
    "by name": ("-Q", "embed,store"),
}

REFUSED = {
    "autoscale": (("--autoscale=10,2",), "-P processes"),
    "autoscale of threads": (("-P", "threads", "--autoscale=10,2"), "-P processes"),
    "a queue that is none": (("-Q", "embed,nonsense"), "nonsense"),
    "no queue": (("-X", "embed,store,sweep"), "-X"),
}


REFUSED_IN_TIME = {
    "a scheduler that is none": ("beat", ("-S", "nonsense"), "--scheduler"),
    "a scheduler of others": ("beat", ("-S", "celery.beat:PersistentScheduler"), "--scheduler"),
    "a scheduler in the worker": ("worker", ("-B", "--scheduler", "nonsense"), "--scheduler"),
    "beat's pidfile": ("beat", ("--pidfile=/nowhere/x",), "/nowhere"),
    "a worker's pidfile": ("worker", ("--pidfile=/nowhere/%n.pid",), "/nowhere"),
    "a worker's state": ("worker", ("-S", "/nowhere/x"), "--statedb"),
}
"""Celery would end in a traceback; with -B its beat alone would, and schedule nothing."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def tenant(fleet: Fleet) -> Iterator[Tenant]:
    made = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="2", SWEEP_INTERVAL_S="1")
    yield made
    made.stop()


@pytest.mark.parametrize("options", list(WORKS.values()), ids=list(WORKS))
def test_a_way_that_works(tenant: Tenant, options: tuple[str, ...]) -> None:
    port = free_port()
    worker = tenant.worker(*options, MONITORING_PORT=str(port))
    tenant.lab.insert(ROWS)
    if "-B" not in options:  # its sweep finds them
        tenant.dispatch()
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    eventually(lambda: get(port, "/readyz")[0] == 200, "it is ready")
    assert get(port, "/livez")[0] == 200
    pool = "solo" if "solo" in options else "prefork" if set(PROCESSES) & set(options) else "thread"
    assert f"({pool}" in worker.output(), "it has another pool than was asked for"
    worker.terminate()
    assert worker.ended.wait(STOP_S)
    assert worker.returncode == 0, f"{worker.describe_end()}\n{worker.output()[-3000:]}"
    assert [one for one in log_lines(worker) if "Traceback" in str(one)] == []
    assert "mingle" not in worker.output(), "it asks all other workers, and waits"


@pytest.mark.parametrize(("options", "word"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_way_that_is_refused(tenant: Tenant, options: tuple[str, ...], word: str) -> None:
    assert_one_sentence(celery("worker", *options, env=tenant.env), word)


@pytest.mark.parametrize(
    ("command", "options", "word"), list(REFUSED_IN_TIME.values()), ids=list(REFUSED_IN_TIME)
)
def test_what_celery_would_end_with_a_traceback_for_is_one_sentence(
    tenant: Tenant, command: str, options: tuple[str, ...], word: str
) -> None:
    assert_one_sentence(celery(command, *options, env=tenant.env), word)


def assert_one_sentence(done: Finished, *words: str) -> None:
    """The last line, after what Celery warns of; Celery adds nothing to it."""
    assert done.code > 0
    last = done.err.splitlines()[-1]
    assert last.startswith("embed-star: "), done.err
    assert all(word in last for word in words), last
    assert "Traceback" not in done.out + done.err


CONTROL = {
    "pool_grow": ("keeps its size", "2"),
    "pool_shrink": ("keeps its size", "1"),
    "autoscale": ("Autoscale not enabled", "10", "2"),
    "pool_restart": ("Pool restarts not enabled",),
}


def to(worker: Child) -> tuple[str, ...]:
    """Of `celery control`: to this one, whose answer is then not followed by a wait for others'."""
    return ("--timeout=5", f"--destination={worker.name}@{socket.gethostname()}")


def test_what_would_break_a_worker_from_afar_is_refused(tenant: Tenant) -> None:
    worker = tenant.worker("-c", "2")
    for command, (word, *arguments) in CONTROL.items():
        done = celery("control", *to(worker), command, *arguments, env=tenant.env)
        assert word in done.out + done.err, f"{command}: {done.out}{done.err}"
    celery("control", *to(worker), "rate_limit", "embed_star.embed_batch", "100/s", env=tenant.env)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    celery("control", "shutdown", env=tenant.env)
    assert worker.ended.wait(STOP_S)
    assert worker.returncode == 0, f"{worker.describe_end()}\n{worker.output()[-3000:]}"


def test_processes_grow_and_shrink_from_afar(tenant: Tenant) -> None:
    worker = tenant.worker("-P", "processes", "-c", "2")
    for command, number in (("pool_grow", "1"), ("pool_shrink", "2")):
        celery("control", *to(worker), command, number, env=tenant.env)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    assert not worker.ended.is_set()


def test_what_is_detached_logs_to_its_file(tenant: Tenant, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.log" for name in ("worker", "beat")}
    pids = {}
    for name, file in files.items():
        pidfile = tmp_path / f"{name}.pid"
        options = ("--detach", f"--logfile={file}", f"--pidfile={pidfile}", "-l", "DEBUG")
        done = celery(name, *options, env=tenant.env)
        assert (done.code, done.err) == (0, "")
        eventually(lambda pidfile=pidfile: pidfile.exists() and pidfile.read_text(), "it runs")
        pids[name] = int(pidfile.read_text())
    try:
        tenant.lab.insert(ROWS)
        tenant.lab.await_quiet()  # by beat's sweep
        tenant.lab.report().assert_kept()
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not list(tmp_path.glob("*.pid")), "they have ended", STOP_S)
    secret = tenant.settings.db_pass.get_secret_value()
    for file in files.values():
        logged = [json.loads(line) for line in file.read_text().splitlines()]
        assert {"settings"} < {one["event"] for one in logged}
        assert "debug" in {one["level"] for one in logged}, "-l DEBUG changes nothing"
        assert secret not in file.read_text()


def test_what_is_detached_and_refused_says_so_in_its_file(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    files = (f"--logfile={file}", f"--pidfile={tmp_path / 'worker.pid'}")
    celery("worker", "--detach", *files, "--autoscale=10,2", env=tenant.env)
    eventually(lambda: file.exists() and "not_started" in file.read_text(), "it says why", STOP_S)
    (line,) = file.read_text().splitlines()
    assert "-P processes" in json.loads(line)["reason"]


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_log_that_cannot_be_written_is_one_sentence(tenant: Tenant, command: str) -> None:
    done = celery(command, "--logfile=/nowhere/at/all.log", env=tenant.env)
    assert_one_sentence(done, "--logfile", "/nowhere/at/all.log")


ELSEWHERE = "redis://:a-secret@127.0.0.1:1/3"


@pytest.mark.parametrize("command", ["worker", "beat"])
@pytest.mark.parametrize(
    ("options", "env"),
    [
        (("-b", ELSEWHERE), {}),
        (("--result-backend", ELSEWHERE), {}),
        ((), {"CELERY_BROKER_URL": ELSEWHERE}),
        ((), {"CELERY_RESULT_BACKEND": ELSEWHERE}),
        ((), {"CELERY_BROKER_WRITE_URL": ELSEWHERE}),
    ],
    ids=["-b", "--result-backend", "broker", "results", "writing"],
)
def test_another_redis_for_celery_alone_is_refused(
    tenant: Tenant, command: str, options: tuple[str, ...], env: dict[str, str]
) -> None:
    done = celery(*options, command, env={**tenant.env, **env})
    assert_one_sentence(done, "REDIS_URL")
    done.assert_keeps("a-secret")


@pytest.mark.parametrize("pool", ["threads", "processes", "solo"])
def test_one_that_was_never_connected_ends_well(tenant: Tenant, pool: str) -> None:
    env = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "MONITORING_PORT": str(free_port())}
    worker = tenant.start(f"never-{pool}", *CELERY, "worker", "-P", pool, **env)
    eventually(lambda: "Trying again in" in worker.output(), "it goes on trying", STOP_S)
    worker.terminate()
    assert worker.ended.wait(STOP_S)
    assert worker.returncode == 0, f"{worker.describe_end()}\n{worker.output()[-3000:]}"
    assert "Traceback" not in worker.output()
