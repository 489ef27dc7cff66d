"""Beats of workers and the messages that they hold, in a real Redis, as Kombu keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis

from embed_star.coordination import client as connection
from embed_star.coordination.workers import HOLDERS, Beat, Look, Workers


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connection.connect(redis_url, 5.0) as client:
        yield client


@pytest.fixture
def workers(client: redis.Redis) -> Workers:
    return Workers(client, "test:", "test:celery:")


def hold(
    client: redis.Redis, tag: str, worker: str, *, priority: int = 0, queue: str = "embed"
) -> None:
    """What a worker does with a message that it takes."""
    properties = {"delivery_tag": tag, "priority": priority, "delivery_info": {}}
    message = {"body": "e30=", "headers": {"id": f"task {tag}"}, "properties": properties}
    client.hset("test:celery:unacked", tag, json.dumps([message, "", queue]))
    client.zadd("test:celery:unacked_index", {tag: 1.0})
    client.hset(f"test:celery:{HOLDERS}", tag, worker)


def queued(client: redis.Redis, name: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in cast("list[bytes]", client.lrange(name, 0, -1))]


def test_the_last_beat_of_each_is_known(workers: Workers) -> None:
    assert workers.look() == Look({}, idle=True)
    assert workers.count() == 0
    workers.beat("one", 1, ["a", "b"])
    workers.beat("two", 1, [])
    workers.beat("one", 2, ["b"])
    assert workers.look().beats == {"one": Beat(2, frozenset({"b"})), "two": Beat(1, frozenset())}
    assert workers.count() == 2
    workers.leave("one")
    workers.leave("one")
    assert set(workers.look().beats) == {"two"}
    assert workers.count() == 1


def test_messages_of_one_worker_are_requeued_and_those_of_others_stay(
    client: redis.Redis, workers: Workers
) -> None:
    for worker in ("dead", "alive"):
        workers.beat(worker, 1, [])
        hold(client, f"fresh {worker}", worker)
        hold(client, f"old {worker}", worker, priority=9)
    client.lpush("test:celery:embed", json.dumps({"headers": {"id": "waits"}}))
    assert not workers.look().idle
    assert workers.requeue("dead") == 2
    assert set(workers.look().beats) == {"alive"}
    next_one = queued(client, "test:celery:embed")[-1]  # taken from the right
    assert next_one["headers"] == {"id": "task fresh dead", "redelivered": True}
    assert next_one["properties"]["delivery_info"] == {"redelivered": True}
    assert next_one["properties"]["delivery_tag"] != "fresh dead"
    (backfill,) = queued(client, "test:celery:embed\x06\x169")
    assert backfill["headers"]["id"] == "task old dead"
    left = {b"fresh alive", b"old alive"}
    assert set(cast("list[bytes]", client.hkeys("test:celery:unacked"))) == left
    assert set(cast("list[bytes]", client.zrange("test:celery:unacked_index", 0, -1))) == left
    assert set(cast("list[bytes]", client.hkeys(f"test:celery:{HOLDERS}"))) == left
    assert workers.requeue("dead") == 0
    assert len(queued(client, "test:celery:embed")) == 2


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[]", b"{}", b'[{"properties": 1}, "", "embed"]', b'[1, "", "embed"]']
)
def test_what_is_no_message_is_left_to_kombu(
    client: redis.Redis, workers: Workers, raw: bytes
) -> None:
    hold(client, "good", "dead")
    hold(client, "bad", "dead")
    client.hset("test:celery:unacked", "bad", raw)
    hold(client, "other", "dead", queue="somebody else's")
    assert workers.requeue("dead") == 1
    assert client.hexists("test:celery:unacked", "bad")
    assert client.hexists("test:celery:unacked", "other")
