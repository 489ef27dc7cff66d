"""A slot of a worker is given back, whatever fails when its task ends; else it is not ready."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.concurrency import asynpool

from embed_star.devstack.servers import free_port
from tasks.workarounds import cut_results
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.metrics_page import get
from tests.support.servers import eventually

SLOTS = 2
BATCH_ROWS = 5
ROWS = 30
RECOVERY_S = 60.0

Change = Callable[[redis.Redis], object]


def celery_with(*lines: str) -> tuple[str, ...]:
    """Celery with our app, after these lines of Python."""
    program = "\n".join((*lines, "from celery.__main__ import main", "main()"))
    return (sys.executable, "-c", program, "-A", "embed_star")


IMPATIENT = celery_with(
    "import tasks.workarounds.chord_results", "tasks.workarounds.chord_results.AWAY_S = 0.5"
)


NOT_OURS = (
    "reject requeue=False",  # Celery: a retry that it cannot publish
    "Frequent restarts detected",  # Celery: it connected five times within a second
    "maybe_refresh_binding_expiry",  # Kombu: a queue of its own that it cannot keep alive
)
"""In the lines of libraries that have a traceback."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as running:
        yield running


def tenant_of(fleet: Fleet) -> Tenant:
    return fleet.tenant(
        BATCH_SIZE=str(BATCH_ROWS),
        CHORD_BATCHES="3",
        PROVIDER_TOTAL_TIMEOUT_S="3",
        LOCK_TTL_S="13",
    )


def is_full(client: redis.Redis) -> None:
    client.config_set("maxclients", len(client.client_list()))


FAULTS: dict[str, tuple[Change, Change]] = {
    "maxclients": (is_full, lambda client: client.config_set("maxclients", 1000)),
    "out of memory": (
        lambda client: client.config_set("maxmemory", 1),
        lambda client: client.config_set("maxmemory", 0),
    ),
    "no right to run scripts": (
        lambda client: client.acl_setuser("default", enabled=True, commands=["-evalsha", "-eval"]),
        lambda client: client.acl_setuser("default", enabled=True, commands=["+evalsha", "+eval"]),
    ),
}


@pytest.mark.parametrize("pool", ["threads", "processes", "solo"])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_parts_that_cannot_be_counted_cost_no_slot(fleet: Fleet, fault: str, pool: str) -> None:
    tenant = tenant_of(fleet)
    port = free_port()
    options = ("-P", pool, "-c", str(SLOTS))
    worker = tenant.worker(*options, celery=IMPATIENT, MONITORING_PORT=str(port))
    fleet.provider.script(latency_ms=800)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_asked(1)
    begin, end = FAULTS[fault]
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        begin(client)
        eventually(lambda: "chord_part_lost" in worker.output(), "a part is lost", RECOVERY_S)
        end(client)
    fleet.provider.script(latency_ms=0)
    tenant.producer()
    tenant.lab.await_quiet()
    # What was being paid for while Redis took nothing is known to one process only.
    tenant.lab.report().assert_kept(paid_again=SLOTS * BATCH_ROWS, hits=SLOTS)
    eventually(lambda: get(port, "/readyz")[0] == 200, "the worker is ready", RECOVERY_S)
    assert not worker.ended.is_set(), f"{worker.describe_end()}\n{worker.output()[-3000:]}"
    logged = [one["event"] for one in log_lines(worker) if "Traceback" in str(one)]
    assert [event for event in logged if not any(one in event for one in NOT_OURS)] == []
    assert "raised outside body" not in worker.output()


LOSING = celery_with(
    "from celery.worker import state",
    "from celery.signals import worker_ready",
    "class Lost: time_start = None",
    "lost = [Lost(), Lost()]",
    "@worker_ready.connect",
    "def lose(**_): state.reserved_requests.update(lost)",
)
"""Two requests that the pool knows nothing of."""


@pytest.mark.parametrize("pool", ["threads", "processes"])
@pytest.mark.parametrize(("slots", "live"), [(SLOTS, 503), (SLOTS + 1, 200)], ids=["all", "some"])
def test_a_worker_that_lost_slots_is_not_ready(
    fleet: Fleet, pool: str, slots: int, live: int
) -> None:
    port = free_port()
    options = ("-P", pool, "-c", str(slots))
    tenant_of(fleet).worker(*options, celery=LOSING, MONITORING_PORT=str(port))
    eventually(lambda: "slots" in get(port, "/readyz")[1], "it is not ready")
    assert f"{SLOTS} of {slots} slots are not given back" in get(port, "/readyz")[1]
    assert get(port, "/livez")[0] == live
    assert f"embed_star_slots_lost {SLOTS}.0" in get(port, "/metrics")[1]


BROKEN = celery_with(
    "from tasks.workarounds.thread_slots import ThreadPool",
    "def broken(*_, **__): raise AttributeError('nothing works')",
    "ThreadPool.on_apply = broken",
)


def test_a_broken_worker_ends_and_leaves_the_messages(fleet: Fleet) -> None:
    tenant = tenant_of(fleet)
    worker = tenant.worker(celery=BROKEN)
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    assert worker.ended.wait(RECOVERY_S)
    assert worker.returncode
    assert "message_refused" not in worker.output()
    tenant.worker()  # and no producer: these are the messages that the other one left
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()


def test_a_message_that_fails_late_costs_no_slot(fleet: Fleet) -> None:
    tenant = tenant_of(fleet)
    worker = tenant.worker("-c", "1")
    with tenant.app() as app:
        for limits in ("x", [1], 1, [None, None, None]):
            app.send_task("embed_star.embed_batch", args=[{}], headers={"timelimit": limits})
    eventually(
        lambda: [one["event"] for one in log_lines(worker)].count("message_refused") >= 4,
        "each is refused",
    )
    tenant.lab.insert(ROWS)
    tenant.dispatch()
    tenant.lab.await_quiet()
    assert not worker.ended.is_set()


ESCAPING = celery_with(
    "from tasks.workarounds.chord_results import UnawaitedBackend",
    "left = [1, 1, 1]",
    "def escape(*_, **__):",
    "    if left: left.pop(); raise MemoryError",
    "UnawaitedBackend.process_cleanup = escape",
)
"""Errors that Celery lets out of a task."""


def test_what_escapes_from_celery_itself_costs_no_slot(fleet: Fleet) -> None:
    tenant = tenant_of(fleet)
    worker = tenant.worker("-c", "1", celery=ESCAPING)
    tenant.producer()
    tenant.lab.insert(ROWS)
    tenant.lab.await_quiet()
    tenant.lab.report().assert_kept()
    assert [one["event"] for one in log_lines(worker)].count("task_broken") == 3


def test_a_result_that_comes_in_parts_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what was read of it is forgotten when the connection to Redis is lost meanwhile."""
    cut_results.use_whole_results()
    handler = object.__new__(asynpool.AsynPool.ResultHandler)
    handler.handle_event = None
    body = pickle.dumps("a result")
    message = struct.pack("!i", len(body)) + body
    parts = [message[:2], message[2:9], message[9:]]
    source, sink = os.pipe()
    os.set_blocking(source, False)
    with os.fdopen(source), os.fdopen(sink):
        os.write(sink, parts.pop(0))

        def more_comes(files: list[int], patience_s: float) -> list[Any]:
            os.write(sink, parts.pop(0))
            return wait(files, patience_s)

        monkeypatch.setattr(cut_results, "wait", more_comes)
        found: list[str] = []
        reading = handler._recv_message(lambda *_: None, source, found.append)
        assert next(reading, "read") == "read"  # it does not turn to something else
    assert (found, parts) == (["a result"], [])
