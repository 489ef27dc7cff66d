"""Each way of starting a worker that Celery offers works, or says in one sentence why not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embed_star.stack.servers import free_port
from tests.support.command_line import Finished, celery
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


@pytest.mark.parametrize(("options", "word"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_way_that_is_refused(tenant: Tenant, options: tuple[str, ...], word: str) -> None:
    assert_one_sentence(celery("worker", *options, env=tenant.env), word)


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


def test_what_would_break_a_worker_from_afar_is_refused(tenant: Tenant) -> None:
    worker = tenant.worker("-c", "2")
    for command, (word, *arguments) in CONTROL.items():
        done = celery("control", "--timeout=5", command, *arguments, env=tenant.env)
        assert word in done.out + done.err, f"{command}: {done.out}{done.err}"
    celery("control", "rate_limit", "embed_star.embed_batch", "100/s", env=tenant.env)
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
        celery("control", "--timeout=5", command, number, env=tenant.env)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    assert not worker.ended.is_set()
