"""The bookkeeping of runs, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from embed_star.coordination import client as connection
from embed_star.coordination.in_flight import InFlightLedger

LONG_S = 3600.0


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


@pytest.mark.parametrize("rows", [0, 1, 10, 1_000_000])
def test_any_number_of_rows_can_be_begun_and_given_back(client: redis.Redis, rows: int) -> None:
    runs = InFlightLedger(client, "test:")
    runs.begin("run", 1_000_000, LONG_S)
    assert runs.start("run", rows, "message", LONG_S)
    assert runs.counts().queued == 1_000_000 - rows
    runs.give_back("run", rows)
    assert runs.counts().in_flight == 1_000_000 - rows


def test_a_batch_that_is_tried_again_is_begun_without_new_rows(client: redis.Redis) -> None:
    """Each such batch logged `run_not_counted`, and no copy of it was known for one."""
    runs = InFlightLedger(client, "test:")
    runs.begin("run", 10, LONG_S)
    assert runs.start("run", 10, "id:0", LONG_S)
    assert runs.start("run", 0, "id:1", LONG_S)
    assert not runs.start("run", 0, "id:1", LONG_S)
    assert runs.counts().queued == 0


def test_numbers_stay_whole_however_large(client: redis.Redis) -> None:
    runs = InFlightLedger(client, "test:")
    runs.begin("run", 2**50 + 1, LONG_S)
    runs.start("run", 2**50, "message", LONG_S)
    assert runs.counts().queued == 1
    runs.finish("run", {"finished": 2**50 + 1})
    runs.begin("next", 1, LONG_S)
    runs.finish("next", {"finished": 2**50 + 1})
    assert runs.totals() == {"finished": 2**51 + 2}
    assert runs.counts().finished_total == 2**51 + 2


def test_a_run_ends_when_it_is_given_up(client: redis.Redis) -> None:
    runs = InFlightLedger(client, "test:")
    runs.begin("kept", 3, LONG_S)
    runs.begin("given up", 5, -1.0)
    counts = runs.counts()
    assert (counts.in_flight, counts.queued) == (3, 3)
    assert client.zcard("test:runs:ends") == 1


def test_runs_that_redis_remembers_by_halves_do_not_count(client: redis.Redis) -> None:
    """Else they would be in flight for good: nobody ends them, and nobody gives them up."""
    runs = InFlightLedger(client, "test:")
    runs.begin("whole", 3, LONG_S)
    client.hset("test:runs:rows", "half", 400)
    client.hset("test:runs:queued", "half", -500)
    counts = runs.counts()
    assert (counts.in_flight, counts.queued) == (3, 3)
    assert client.hgetall("test:runs:rows") == {b"whole": b"3"}
    assert client.hgetall("test:runs:queued") == {b"whole": b"3"}
