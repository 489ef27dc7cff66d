"""Code in messages and results: a real worker runs none of it, lives, and goes on."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import DecodeError

from tasks.app import EMBED_QUEUE, STORE_QUEUE
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.servers import eventually


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What is there when the code ran. It would: unpickling does it."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Payload(marker)))  # noqa: S301 - our own
    assert marker.exists()
    marker.unlink()
    return marker


@pytest.fixture
def client(fleet: Fleet) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fleet.servers.redis_url) as client:
        yield client


def envelope(task: str, body: bytes, content_type: str, encoding: str) -> bytes:
    """A message as Kombu puts it into Redis."""
    number = str(uuid.uuid4())
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": content_type,
            "content-encoding": encoding,
            "headers": {"lang": "py", "task": task, "id": number, "root_id": number},
            "properties": {
                "correlation_id": number,
                "delivery_tag": number,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": EMBED_QUEUE},
                "priority": 0,
                "body_encoding": "base64",
            },
        }
    ).encode()


def hostile_messages(marker: Path) -> Iterator[tuple[str, bytes]]:
    """By queue."""
    pickled = pickle.dumps(((Payload(marker),), {}, {}))
    yaml = f"!!python/object/apply:os.system ['touch {marker}']".encode()
    for queue, task in (
        (EMBED_QUEUE, "embed_star.embed_batch"),
        (STORE_QUEUE, "embed_star.store_embeddings"),
        (EMBED_QUEUE, "os.system"),
    ):
        for kind in ("application/x-python-serialize", "application/data", "application/json"):
            yield queue, envelope(task, pickled, kind, "binary")
        yield queue, envelope(task, yaml, "application/x-yaml", "utf-8")
        yield queue, envelope(task, yaml, "application/json", "utf-8")
    # JSON, and no task's arguments.
    for body in (b"1", b"null", b'"args"', b"[]", b"[1, 2, 3]", b'{"args": 1}'):
        yield EMBED_QUEUE, envelope("embed_star.embed_batch", body, "application/json", "utf-8")
    # Well-formed, and not ours.
    arguments = json.dumps([[f"touch {marker}"], {}, {}]).encode()
    yield EMBED_QUEUE, envelope("os.system", arguments, "application/json", "utf-8")


def assert_goes_on(tenant: Tenant) -> None:
    keys = tenant.lab.insert(10)
    tenant.dispatch()
    eventually(lambda: tenant.lab.embedded(keys) == len(keys), "rows are embedded")


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_message_with_code(pool: str, fleet: Fleet, client: redis.Redis, marker: Path) -> None:
    tenant = fleet.tenant()
    worker = tenant.worker("-P", pool)
    prefix = tenant.lab.services.redis_prefix + "celery:"
    sent = list(hostile_messages(marker))
    for queue, message in sent:
        client.lpush(prefix + queue, message)
    eventually(
        lambda: (
            not any(client.llen(prefix + queue) for queue, _ in sent)
            and not client.hlen(prefix + "unacked")
        ),
        "each is taken, and none is kept to be tried again",
    )
    assert_goes_on(tenant)
    assert not worker.ended.is_set()
    assert not marker.exists()
    refusals = [one for one in log_lines(worker) if one["event"] == "message_refused"]
    assert len(refusals) >= 15
    tenant.close()


def test_what_is_no_message_at_all(fleet: Fleet, client: redis.Redis, marker: Path) -> None:
    tenant = fleet.tenant()
    worker = tenant.worker()
    queue = tenant.lab.services.redis_prefix + "celery:" + EMBED_QUEUE
    for junk in (
        pickle.dumps(Payload(marker)),
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"{}",
        b'{"body": 1}',
    ):
        client.lpush(queue, junk)
    eventually(lambda: not client.llen(queue), "each is taken")
    assert_goes_on(tenant)
    assert not worker.ended.is_set()
    assert not marker.exists()
    tenant.close()


def test_a_part_of_a_chord_with_code(fleet: Fleet, client: redis.Redis, marker: Path) -> None:
    """The chord is lost, its rows are not."""
    tenant = fleet.tenant(SWEEP_INTERVAL_S="1", BATCH_SIZE="5")
    worker = tenant.worker()
    tenant.provider.script(latency_ms=1500)
    tenant.lab.insert(10)
    tenant.producer()
    tenant.lab.await_asked()
    (size,) = client.keys(tenant.lab.services.redis_prefix + "celery:celery-taskset-meta-*.s")
    parts = bytes(size).removesuffix(b".s") + b".j"
    client.zadd(parts, {pickle.dumps(Payload(marker)): -1})
    tenant.provider.reset()
    tenant.lab.await_quiet()
    assert not worker.ended.is_set()
    assert not marker.exists()
    tenant.close()


def test_a_result_with_code(fleet: Fleet, client: redis.Redis, marker: Path) -> None:
    tenant = fleet.tenant()
    with tenant.app() as app:
        result = app.AsyncResult(str(uuid.uuid4()))
        meta = {"status": "SUCCESS", "result": Payload(marker), "task_id": result.id}
        key = tenant.lab.services.redis_prefix.encode() + b"celery:celery-task-meta-"
        client.set(key + result.id.encode(), pickle.dumps(meta))
        with pytest.raises(DecodeError):
            result.get(timeout=2)
    assert not marker.exists()
    tenant.close()
