"""The Producer: one of several leads, and dispatches what is pending."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from embed_star.errors import RedisUnavailable
from embed_star.models import Batch, Lane
from embed_star.produce.producer import Producer
from tests.support.memory_services import TIMINGS
from tests.support.memory_world import MemoryWorld
from tests.support.servers import PROMPT_S
from tests.support.world import Recorder
from tests.unit.core.conftest import MakeMemoryWorld


def test_the_first_leads_and_dispatches(world: MemoryWorld) -> None:
    world.write_many(3)
    recorder = Recorder()
    producer = world.services.producer(recorder)
    assert not producer.leading
    producer.tick()
    assert producer.leading
    assert recorder.keys == ["0", "1", "2"]


def test_the_second_stands_by_until_the_first_steps_down(make_world: MakeMemoryWorld) -> None:
    one, other = make_world(), make_world()
    recorder = Recorder()
    first = one.services.producer(Recorder(), "first")
    second = other.services.producer(recorder, "second")
    first.tick()
    one.write_many(3)
    second.tick()
    assert (first.leading, second.leading) == (True, False)
    assert recorder.runs == []
    first.stop()
    second.tick()
    assert second.leading
    assert recorder.keys == ["0", "1", "2"]


def test_one_of_a_retired_space_lets_another_lead(make_world: MakeMemoryWorld) -> None:
    old = make_world()
    former = old.services.producer(Recorder(), "former")
    former.tick()
    new = make_world(embedding_model="another")
    new.write_many(2)
    old.clock.pass_s(2.0)  # until the space is looked at again
    former.tick()
    assert not former.leading
    recorder = Recorder()
    later = new.services.producer(recorder, "later")
    later.tick()
    assert later.leading
    assert recorder.keys == ["0", "1"]


def test_it_waits_for_as_long_as_the_provider_is_paused(world: MemoryWorld) -> None:
    admission = world.services.breaker.admit()
    world.services.breaker.failed(admission, for_certain=True)
    paused_s = world.services.breaker.state().retry_in_s
    assert world.services.producer(Recorder()).tick() == paused_s > 0


def test_its_lease_outlasts_the_wait_for_a_notification(world: MemoryWorld) -> None:
    assert world.services.producer(Recorder()).tick() <= TIMINGS.lease_s / 3


class Awaited(Recorder):
    """Rings with each run."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = threading.Condition()

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        with self._arrived:
            super().dispatch(batches, lane)
            self._arrived.notify_all()

    def await_rows(self, rows: int) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.keys) >= rows, PROMPT_S)


@contextmanager
def running(producer: Producer) -> Iterator[None]:
    """Within, its loop runs in a thread."""
    thread = threading.Thread(target=producer.run)
    thread.start()
    try:
        yield
    finally:
        producer.stop()
        thread.join(PROMPT_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [RedisUnavailable("away"), RuntimeError("a bug")], ids=repr)
def test_the_loop_outlives_errors_and_ends_when_told_so(
    world: MemoryWorld, error: Exception
) -> None:
    world.write_many(3)
    recorder = Awaited()
    recorder.errors = [error]
    with running(world.services.producer(recorder)):
        recorder.await_rows(3)
    assert world.services.leases.acquire(["leader"], "next", 1.0) == [True]


def test_a_finished_run_wakes_the_loop(make_world: MakeMemoryWorld) -> None:
    world = make_world(batch_size=2, chord_batches=1, max_in_flight_rows=2)
    world.store.repos.upsert([(n, {"full_name": f"n{n}"}) for n in range(4)], lane=1)
    recorder = Awaited()
    with running(world.services.producer(recorder)):
        recorder.await_rows(2)
        assert len(recorder.keys) == 2
        world.carry_out(recorder.batches[0])
        recorder.await_rows(4)
