"""Real workers on a real broker: chords, retries, logs, shutdown, other pools."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from embed_star.devstack.processes import Child
from tests.support.command_line import celery
from tests.support.fleet import STOP_S, Fleet, Tenant, log_lines
from tests.support.servers import PROMPT_S, eventually, find_surreal

BATCH_ROWS = 5
RUN_BATCHES = 3
BATCHES = {"BATCH_SIZE": str(BATCH_ROWS), "CHORD_BATCHES": str(RUN_BATCHES)}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture(scope="module")
def shared(fleet: Fleet) -> tuple[Tenant, Child]:
    """A tenant with a worker that outlives the tests, and no producer."""
    tenant = fleet.tenant(**BATCHES)
    return tenant, tenant.worker()


@pytest.fixture
def tenant(shared: tuple[Tenant, Child]) -> Tenant:
    shared[0].provider.reset()
    return shared[0]


@pytest.fixture
def worker(shared: tuple[Tenant, Child]) -> Iterator[Child]:
    """The worker, which nothing may end."""
    yield shared[1]
    assert not shared[1].ended.is_set(), shared[1].describe_end()


@pytest.fixture
def lonely(fleet: Fleet) -> Iterator[Tenant]:
    """A tenant of the test's own, without processes."""
    fleet.provider.reset()
    made = fleet.tenant(**BATCHES, PROVIDER_TOTAL_TIMEOUT_S="3", LOCK_TTL_S="13")
    yield made
    made.stop()


def lines(child: Child, since: int, **wanted: Any) -> list[dict[str, Any]]:
    """Log lines after the first `since` that have these values."""
    return [
        line
        for line in log_lines(child)[since:]
        if all(line.get(name) == value for name, value in wanted.items())
    ]


# Runs


def of_tasks(child: Child, since: int) -> list[str]:
    """What Celery says of tasks after the first `since` lines."""
    return [line["event"] for line in lines(child, since, logger="celery.app.trace")]


@pytest.mark.parametrize(
    ("batches", "bodies"),
    [(1, 0), (RUN_BATCHES, 1)],
    ids=["one batch, at once", "several, a chord"],
)
def test_a_run_is_stored_in_one_write(
    tenant: Tenant, worker: Child, batches: int, bodies: int
) -> None:
    since = len(log_lines(worker))
    tenant.lab.insert(batches * BATCH_ROWS)
    assert tenant.dispatch() == batches * BATCH_ROWS
    tenant.lab.await_quiet()
    eventually(lambda: bool(lines(worker, since, event="run_stored")), "the run is logged")
    (stored,) = lines(worker, since, event="run_stored")
    assert stored["embedded"] == batches * BATCH_ROWS
    assert len(tenant.provider.asked()) == batches
    tenant.lab.report().assert_kept()
    ended = "succeeded in"
    eventually(
        lambda: sum(ended in one for one in of_tasks(worker, since)) == batches + bodies,
        "all tasks have ended",
    )
    assert sum("store_embeddings" in one for one in of_tasks(worker, since)) == bodies


def test_a_run_of_one_batch_that_cannot_be_written_at_once_is_written_later(
    tenant: Tenant, worker: Child
) -> None:
    since = len(log_lines(worker))
    table = tenant.lab.services.space.table
    # As a write that meets others each time.
    tenant.lab.query(
        f"DEFINE EVENT busy ON {table} WHEN true THEN {{ THROW 'This transaction can be retried' }}"
    )
    tenant.lab.insert(BATCH_ROWS)
    tenant.dispatch()
    eventually(lambda: bool(lines(worker, since, event="store_put_off")), "the write fails")
    assert lines(worker, since, event="run_stored") == []
    tenant.lab.query(f"REMOVE EVENT busy ON {table}")
    tenant.lab.await_quiet()
    eventually(lambda: bool(lines(worker, since, event="run_stored")), "the run is logged")
    (stored,) = lines(worker, since, event="run_stored")
    assert stored["task"] == "embed_star.store_embeddings"
    assert len(tenant.provider.asked()) == 1
    tenant.lab.report().assert_kept()


def test_the_ids_of_a_run_are_in_every_log_line_of_it(tenant: Tenant, worker: Child) -> None:
    since = len(log_lines(worker))
    tenant.provider.script(fail_next=1, status=429, retry_after="1")
    tenant.lab.insert(BATCH_ROWS + 1)
    tenant.dispatch()
    tenant.lab.await_quiet()
    eventually(lambda: bool(lines(worker, since, event="run_stored")), "the run is logged")
    (stored,) = lines(worker, since, event="run_stored")
    run_id = stored["run_id"]
    assert len(run_id) == 32
    # The body may have ended before the last header says that it has.
    ended = "embed_batch", " succeeded in "
    eventually(
        lambda: sum(all(part in one for part in ended) for one in of_tasks(worker, since)) == 2,
        "both batches have ended",
    )
    of_task = lines(worker, since, logger="celery.app.trace")
    header = [line for line in of_task if "embed_batch" in line["event"]]
    retried = [line for line in header if " retry: " in line["event"]]
    done = [line for line in header if " succeeded in " in line["event"]]
    assert (len(retried), len(done)) == (1, 2)
    assert {line["run_id"] for line in of_task} == {run_id}
    correlations = {line["correlation_id"] for line in done}
    assert len(correlations) == 2
    assert retried[0]["correlation_id"] in correlations
    assert {line["retries"] for line in done} == {0, 1}


def test_every_line_of_a_worker_s_log_is_json(worker: Child) -> None:
    # Celery prints its banner, and a warning to root, before it logs.
    logged = [line for line in worker.output().splitlines() if "[info" in line]
    assert logged == []
    assert lines(worker, 0, event="settings")


def test_a_provider_s_hiccup_costs_no_money(tenant: Tenant, worker: Child) -> None:
    tenant.provider.script(fail_next=3, status=503)
    tenant.lab.insert(BATCH_ROWS)
    tenant.dispatch()
    tenant.lab.await_quiet()
    statuses = [entry["status"] for entry in tenant.provider.ledger()]
    # The batch, our own text until it is answered, and both halves of the batch.
    assert statuses == [503, 503, 503, 200, 200, 200]
    report = tenant.lab.report()
    report.assert_kept()
    assert sum(report.paid.values()) == BATCH_ROWS
    assert report.failed == {}


def test_a_pickled_message_runs_nothing(tenant: Tenant, worker: Child, tmp_path: Path) -> None:
    since = len(log_lines(worker))
    marker = tmp_path / "it ran"
    bomb = _Bomb(marker)
    pickle.loads(pickle.dumps(bomb))  # noqa: S301 - ours: to see that it would go off
    assert marker.exists()
    marker.unlink()
    headers = {"task": "embed_star.embed_batch", "id": "b0b0", "lang": "py", "argsrepr": ""}
    with tenant.app() as app, app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            ([bomb], {}, {}), serializer="pickle", routing_key="embed", headers=headers
        )
    eventually(
        lambda: any(line["event"] == "message_refused" for line in log_lines(worker)[since:]),
        "the message is refused",
    )
    with redis.Redis.from_url(tenant.servers.redis_url) as client:
        assert client.llen(f"{tenant.lab.services.redis_prefix}celery:embed") == 0
    tenant.lab.insert(1)
    tenant.dispatch()
    tenant.lab.await_quiet()
    assert not marker.exists()


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_messages_carry_ids_only(tenant: Tenant, worker: Child) -> None:
    tenant.provider.script(latency_ms=300)
    secret = "canary-description-7731"
    tenant.lab.insert(1, description=secret)
    with redis.Redis.from_url(tenant.servers.redis_url) as client:
        tenant.dispatch()
        tenant.lab.await_asked()
        held = [key + (client.dump(key) or b"") for key in client.scan_iter("*")]
        tenant.lab.await_quiet()
    assert held
    everything = b"".join(held) + worker.output().encode()
    assert secret.encode() not in everything
    assert tenant.env["DB_PASS"].encode() not in everything


# Faults


def test_rows_outlive_a_provider_that_is_down(lonely: Tenant) -> None:
    lab = lonely.lab
    lonely.provider.script(fail_next=-1, status=503)
    soon = {"RETRY_MAX": "1", "BREAKER_OPEN_S": "1"}
    worker = lonely.worker(**soon)
    lab.insert(BATCH_ROWS)
    lonely.dispatch()
    eventually(lambda: bool(lines(worker, 0, event="rows_wait")), "the rows wait", PROMPT_S)
    assert (lab.is_quiet(), lab.report().failed) == (False, {})
    lonely.provider.script(fail_next=0)
    lonely.producer(**soon)
    lab.await_quiet()
    lab.report().assert_kept()


def test_a_worker_that_is_stopped_finishes_its_calls(lonely: Tenant) -> None:
    lonely.provider.script(latency_ms=1000)
    first = lonely.worker()
    lonely.lab.insert(RUN_BATCHES * BATCH_ROWS)
    lonely.dispatch()
    lonely.lab.await_asked(RUN_BATCHES)
    first.terminate()
    assert first.ended.wait(STOP_S)
    assert first.returncode == 0
    lonely.worker()
    lonely.lab.await_quiet()
    lonely.lab.report().assert_kept()
    assert len(lonely.provider.asked()) == RUN_BATCHES


def test_a_producer_that_is_stopped_says_goodbye_and_nothing_else(lonely: Tenant) -> None:
    producer = lonely.producer()
    lonely.worker()
    lonely.lab.insert(RUN_BATCHES * BATCH_ROWS)
    lonely.lab.await_quiet()
    producer.terminate()
    assert producer.ended.wait(STOP_S)
    assert producer.returncode == 0
    assert log_lines(producer)[-1]["event"] == "stopped"
    assert all(line.startswith("{") for line in producer.output().splitlines())


def test_a_producer_keeps_nothing_of_its_runs(lonely: Tenant) -> None:
    producer = lonely.producer()
    lonely.worker()
    lonely.lab.insert(40 * BATCH_ROWS)
    lonely.lab.await_quiet()
    with redis.Redis.from_url(lonely.servers.redis_url) as client:
        assert max(int(one["sub"]) for one in client.client_list()) <= 1
    assert not producer.ended.is_set()


def test_a_killed_pool_child_costs_its_call_only(lonely: Tenant) -> None:
    lonely.provider.script(latency_ms=700)
    worker = lonely.worker("-P", "processes", "-c", "2")
    lonely.lab.insert(2 * BATCH_ROWS)
    lonely.dispatch()
    lonely.lab.await_asked(2)
    os.kill(children(worker.pid)[0], signal.SIGKILL)
    lonely.producer()
    lonely.lab.await_quiet()
    assert not worker.ended.is_set()
    lonely.lab.report().assert_kept(paid_again=BATCH_ROWS, hits=1)


def children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(one) for one in listed.stdout.split()]


# Beat


def test_beat_alone_gets_rows_embedded(lonely: Tenant) -> None:
    lonely.worker()
    beat = lonely.beat(SWEEP_INTERVAL_S="1")
    lonely.lab.insert(BATCH_ROWS * 2)
    lonely.lab.await_quiet()
    lonely.lab.report().assert_kept()
    assert not beat.ended.is_set()


def test_reconcile_finds_what_no_event_announced(lonely: Tenant, tmp_path: Path) -> None:
    worker = lonely.worker(RECONCILE_INTERVAL_S="0.01")
    lonely.producer()
    eventually(
        lambda: bool(lines(worker, 0, event="reconciled", phase="done")), "the first walk is over"
    )
    rows = [f'{{ id: repo:imported{n}, description: "imported {n}" }}' for n in range(20)]
    surreal_import(lonely, f"INSERT INTO repo [{', '.join(rows)}];", tmp_path / "rows.surql")
    assert lonely.lab.is_quiet(), "surreal import fired events: this test shows nothing now"
    celery("call", "embed_star.reconcile", env=lonely.env).assert_worked()
    eventually(lambda: lonely.lab.report().embedded == 20, "the rows are embedded")
    lonely.lab.await_quiet()
    lonely.lab.report().assert_kept()


def surreal_import(tenant: Tenant, sql: str, file: Path) -> None:
    """As a person restores a backup."""
    file.write_text(f"OPTION IMPORT;\n{sql}\n")
    settings, root = tenant.settings, tenant.servers.root_environment
    subprocess.run(
        [
            *(
                str(find_surreal()),
                "import",
                "--endpoint",
                settings.db_url.replace("ws", "http", 1),
            ),
            *("--namespace", settings.db_namespace, "--database", settings.db_database),
            str(file),
        ],
        env={
            **os.environ,
            "SURREAL_USER": root["ROOT_DB_USER"],
            "SURREAL_PASS": root["ROOT_DB_PASS"],
        },
        capture_output=True,
        check=True,
    )
