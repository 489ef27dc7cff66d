"""Rows in, vectors out: all processes, real servers, and what happens to them on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from embed_star.devstack.stack import LocalStack
from embed_star.values import RecordID
from tests.support.checker import Report, payments
from tests.support.command_line import celery, embed_star
from tests.support.lab import QUIET_S, Lab
from tests.support.metrics_page import Scrape, get
from tests.support.servers import PROMPT_S, eventually
from tests.support.whole_stack import PROMPT_RECOVERY, whole_stack

ROWS = 5_000
BATCH_ROWS = 20
CALLS = 3
"""Provider calls in flight, each worker."""
IN_FLIGHT_ROWS = 800


@dataclass(frozen=True, slots=True)
class Whole:
    stack: LocalStack
    lab: Lab


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    env = {
        **PROMPT_RECOVERY,
        "BATCH_SIZE": str(BATCH_ROWS),
        "CHORD_BATCHES": "5",
        "PARALLEL_WORKERS": str(CALLS),
        "MAX_IN_FLIGHT_ROWS": str(IN_FLIGHT_ROWS),
    }
    with whole_stack(tmp_path_factory.mktemp("whole"), workers=2, env=env) as (stack, lab):
        yield Whole(stack, lab)


def test_every_row_is_embedded_and_paid_for_once(whole: Whole) -> None:
    lab = whole.lab
    lab.insert(ROWS)
    lab.await_quiet()
    report = lab.report()
    assert (report.rows, report.embedded, report.failed) == (ROWS, ROWS, {})
    report.assert_kept()
    assert len(report.paid) == ROWS


def test_every_part_is_monitored_on_a_port_of_its_own(whole: Whole) -> None:
    ports = whole.stack.monitoring_ports
    assert set(ports) == {"worker1", "worker2", "beat", "producer"}
    for port in ports.values():
        assert get(port, "/readyz") == (200, '{"ready": true}\n')
    workers = [Scrape(ports[name]) for name in ("worker1", "worker2")]
    assert sum(one.value("rows_total", outcome="embedded") or 0 for one in workers) >= ROWS


def test_commands_in_another_terminal_see_it(whole: Whole) -> None:
    env = whole.lab.environment
    status = json.loads(embed_star("status", "--json", env=env).assert_worked())
    assert (status["embedded"], status["failed"]) == (ROWS, {})
    assert status["pending"] == {"fresh": 0, "backfill": 0}
    assert {name.partition("@")[0] for name in status["workers"]} == {"worker1", "worker2"}
    filters = ("--language", "rust", "--min-stars", "4000", "-k", "7", "--json")
    hits = json.loads(embed_star("search", "crabs", *filters, env=env).assert_worked())
    assert len(hits) == 7
    assert {hit["repo"]["language"] for hit in hits} == {"Rust"}
    assert min(hit["repo"]["stargazers_count"] for hit in hits) >= 4000
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert celery("inspect", "ping", env=env).assert_worked().count("pong") == 2


def test_a_killed_worker_a_wiped_redis_and_a_busy_user_lose_nothing(whole: Whole) -> None:
    lab, before = whole.lab, whole.lab.report()
    lab.provider.script(latency_ms=200)
    keys = lab.insert(2_000)
    edited, deleted = keys[::100], keys[50::400]
    lab.await_asked(calls=2)

    first = whole.stack.processes["worker1"]
    os.kill(first.pid, signal.SIGKILL)
    for key in edited[:10]:
        lab.edit(key, description=f"Edited while worker1 was away: {key}")
    for key in deleted[:3]:
        lab.delete(key)
    eventually(lambda: lab.embedded(keys) >= 500, "a quarter is embedded", QUIET_S)

    with redis.Redis.from_url(whole.stack.servers.redis_url) as client:
        client.flushall()
    assert not lab.is_quiet(), "the run was over before Redis was wiped"
    for key in edited[10:]:
        lab.edit(key, description=f"Edited after Redis was wiped: {key}")
    for key in deleted[3:]:
        lab.delete(key)

    lab.await_quiet()
    assert whole.stack.processes["worker1"] is not first
    eventually(lambda: lab.report().locks == 0, "the last locks go", PROMPT_S)
    report = lab.report()
    assert (report.rows, report.failed) == (before.rows + 2_000 - 5, {})
    assert len(edited) == 20
    # The kill: calls in flight, and answers not yet in the cache. FLUSHALL: what was in
    # the cache and not yet written.
    threads = CALLS + 2
    report.assert_kept(paid_again=threads * BATCH_ROWS + IN_FLIGHT_ROWS, hits=2)


def test_the_embedded_engine_goes_the_same_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("embedded")
    with whole_stack(folder, engine="embedded", workers=1) as (stack, lab):
        assert stack.servers.engine == "embedded"
        lab.insert(300)
        lab.await_quiet()
        report = lab.report()
        assert (report.rows, report.embedded, report.failed) == (300, 300, {})
        report.assert_kept()


def test_the_checker_sees_what_is_wrong(whole: Whole) -> None:
    lab, table = whole.lab, whole.lab.services.space.table
    paid_again = lab.report().paid_again.total()
    tampered = {key: RecordID(table, key) for key in range(4)}
    lab.query("DELETE $id", id=tampered[0])
    lab.query("UPDATE $id SET text_hash = 'of another text'", id=tampered[1])
    (vector,) = lab.query("SELECT VALUE vector FROM $id", id=tampered[3])
    lab.query("UPDATE $id SET vector = $vector", id=tampered[2], vector=vector[0])
    lab.query("CREATE $id SET text_hash = ''", id=RecordID(table, "nobody"))
    report = lab.report()
    for found, key in (
        (report.lost, "0"),
        (report.stale, "1"),
        (report.mismatched, "2"),
        (report.orphaned, '"nobody"'),
    ):
        assert [one.split()[0] for one in found] == [key]
    with pytest.raises(AssertionError, match="1 lost: 0 has neither"):
        report.assert_kept(paid_again=paid_again, hits=2)
    ledger = [
        {"paid": True, "fault": None, "texts": ["once", "twice"]},
        {"paid": True, "fault": None, "texts": ["twice"]},
    ]
    with pytest.raises(AssertionError, match="1 inputs paid again, at most 0 may be"):
        Report(0, 0, {}, 0, 0, payments(ledger)).assert_kept()
