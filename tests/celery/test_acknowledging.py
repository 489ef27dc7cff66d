"""What Redis refuses to acknowledge: its place is free at once, and it is done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue

from tasks import transport
from tests.support.redis_with import redis_with

QUEUE = Queue("work", routing_key="work")
VISIBLE_S = 1.0
SOON_S = 5.0
POLL_S = 0.2
"""Less than a pop waits in Redis: a poll with nothing in it looks for what is to be restored."""
NOTHING_S = 3.0
"""Longer than VISIBLE_S: what is unacknowledged would come again within it."""

Change = Callable[[redis.Redis], object]


def no_connection(client: redis.Redis) -> None:
    """But for those that consume: the one to acknowledge with is a new one."""
    for one in client.client_list():
        if one["cmd"] not in ("brpop", "client|list"):
            client.client_kill_filter(_id=one["id"])
    client.config_set("maxclients", len(client.client_list()))


REFUSALS: dict[str, tuple[Change, Change]] = {
    "no right to": (
        lambda client: client.acl_setuser("default", enabled=True, commands=["-zrem"]),
        lambda client: client.acl_setuser("default", enabled=True, commands=["+zrem"]),
    ),
    "a replica": (
        lambda client: client.replicaof("127.0.0.1", "1"),
        lambda client: client.replicaof("NO", "ONE"),
    ),
    "no connection to be had": (
        no_connection,
        lambda client: client.config_set("maxclients", 1000),
    ),
}


class Taker:
    """A consumer with room for one message."""

    def __init__(self, port: int) -> None:
        options = {"visibility_timeout": VISIBLE_S, "unacked_restore_throttle": 1}
        transport.apply()
        self.connection = Connection(f"redis://127.0.0.1:{port}/0", transport_options=options)
        self.taken: list[Any] = []
        self.consumer = Consumer(
            self.connection.channel(),
            [QUEUE],
            callbacks=[lambda _, message: self.taken.append(message)],
            prefetch_count=1,
        )
        self.consumer.consume()

    def take(self, within_s: float = SOON_S) -> Any:
        """The next message; None if there is none."""
        self.taken.clear()
        until = time.monotonic() + within_s
        while not self.taken and time.monotonic() < until:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=POLL_S)
        return self.taken[0] if self.taken else None

    def publish(self, *bodies: int) -> None:
        with self.connection.Producer() as producer:
            for body in bodies:
                producer.publish(body, routing_key="work", declare=[QUEUE])


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis_with() as port, redis.Redis(port=port) as made:
        yield made


@pytest.fixture
def taker(client: redis.Redis) -> Iterator[Taker]:
    made = Taker(client.get_connection_kwargs()["port"])
    yield made
    made.connection.release()


def unacknowledged(client: redis.Redis) -> int:
    return int(client.hlen("unacked"))


@pytest.mark.parametrize("refusal", list(REFUSALS))
def test_it_is_made_up_for_with_the_next_one(
    taker: Taker, client: redis.Redis, refusal: str
) -> None:
    begin, end = REFUSALS[refusal]
    taker.publish(1, 2)
    first = taker.take()
    begin(client)
    first.ack()
    assert unacknowledged(client) == 1, "Redis has not refused it"
    end(client)
    second = taker.take()
    assert second.payload == 2, "its place is not free"
    second.ack()
    assert unacknowledged(client) == 0
    assert taker.take(NOTHING_S) is None, "it is done twice"


@pytest.mark.parametrize("refusal", list(REFUSALS))
def test_it_is_made_up_for_when_nothing_else_comes(
    taker: Taker, client: redis.Redis, refusal: str
) -> None:
    begin, end = REFUSALS[refusal]
    taker.publish(1)
    first = taker.take()
    begin(client)
    first.ack()
    end(client)
    assert taker.take(NOTHING_S) is None, "it is done twice"
    assert unacknowledged(client) == 0


def test_what_should_go_back_goes_back_later(taker: Taker, client: redis.Redis) -> None:
    begin, end = REFUSALS["no right to"]
    taker.publish(1)
    first = taker.take()
    begin(client)
    first.reject(requeue=True)
    end(client)
    again = taker.take()
    assert again.payload == 1
    again.ack()
    assert unacknowledged(client) == 0
    assert taker.take(NOTHING_S) is None, "it is given out twice"


def test_what_its_worker_never_makes_up_for_comes_again(taker: Taker, client: redis.Redis) -> None:
    begin, end = REFUSALS["no right to"]
    taker.publish(1)
    first = taker.take()
    begin(client)
    first.ack()
    end(client)
    other = Taker(client.get_connection_kwargs()["port"])
    again = other.take(NOTHING_S)
    assert again is not None, "it is lost"
    again.ack()
    assert unacknowledged(client) == 0
    other.connection.release()
