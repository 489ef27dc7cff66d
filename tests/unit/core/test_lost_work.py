"""LostWork: what a dead worker or an emptied Redis has left is taken up, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from embed_star.coordination.workers import Beat, Look
from embed_star.errors import RedisUnavailable
from embed_star.models import Batch
from embed_star.produce.lost_work import LostWork, Patience
from tests.support.memory_world import MemoryWorld

PATIENCE = Patience(look_s=1.0, dead_after_s=8.0, lost_run_s=4.0)


@dataclass
class Fleet:
    """Scripted workers: each beats at every look, unless it is stopped."""

    beats: dict[str, Beat] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    requeued: list[str] = field(default_factory=list)
    away: bool = False
    idle: bool = False
    """Whether the queues are empty."""

    def look(self) -> Look:
        if self.away:
            raise RedisUnavailable("it is away")
        for name in self.beats.keys() - self.stopped:
            number, runs = self.beats[name]
            self.beats[name] = Beat(number + 1, runs)
        return Look(dict(self.beats), self.idle)

    def requeue(self, worker: str) -> int:
        del self.beats[worker]
        self.requeued.append(worker)
        return 1


class Watched:
    """A world, a fleet, and the watch on both."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.fleet = Fleet({"one": Beat(0, frozenset()), "two": Beat(0, frozenset())})
        services = world.services
        self.lost_work = LostWork(
            workers=self.fleet,
            ledger=services.ledger,
            claims=services.claims,
            patience=PATIENCE,
            clock=world.clock,
        )

    def pass_s(self, seconds: int) -> None:
        """With a look each second."""
        for _ in range(seconds):
            self.world.clock.pass_s(1.0)
            self.lost_work.look()

    def run(self) -> Batch:
        """A run under way, of two rows."""
        self.world.write_many(2)
        batch = self.world.claim()
        self.lost_work.began(batch.run_id, [row.key for row in batch.rows])
        return batch


@pytest.fixture
def watched(world: MemoryWorld) -> Watched:
    return Watched(world)


class TestDeadWorkers:
    def test_messages_are_requeued_once_when_the_beat_stands_still(self, watched: Watched) -> None:
        watched.pass_s(20)
        watched.fleet.stopped.add("one")
        watched.pass_s(7)
        assert watched.fleet.requeued == []
        watched.pass_s(20)
        assert watched.fleet.requeued == ["one"]

    def test_who_beats_again_in_time_is_left_alone(self, watched: Watched) -> None:
        for _ in range(3):
            watched.fleet.stopped.add("one")
            watched.pass_s(7)
            watched.fleet.stopped.clear()
            watched.pass_s(1)
        assert watched.fleet.requeued == []

    def test_nobody_is_given_up_for_a_redis_that_was_away(self, watched: Watched) -> None:
        """No worker could beat meanwhile; each has the whole time once it is back."""
        watched.pass_s(5)
        watched.fleet.away = True
        for _ in range(60):
            watched.world.clock.pass_s(1.0)
            with pytest.raises(RedisUnavailable):
                watched.lost_work.look()
        watched.fleet.away = False
        watched.fleet.stopped.update(watched.fleet.beats)
        watched.pass_s(8)
        assert watched.fleet.requeued == []
        watched.pass_s(1)
        assert sorted(watched.fleet.requeued) == ["one", "two"]

    def test_looks_are_not_more_often_than_that(self, watched: Watched) -> None:
        watched.lost_work.look()
        before = watched.fleet.beats["one"]
        watched.lost_work.look()
        assert watched.fleet.beats["one"] == before


class TestLostRuns:
    def test_rows_are_released_when_redis_has_forgotten_the_run(self, watched: Watched) -> None:
        watched.run()
        watched.pass_s(10)
        assert watched.world.locks()
        watched.world.services.ledger.forget_all()
        watched.pass_s(4)
        assert watched.world.locks()
        watched.pass_s(1)
        assert watched.world.locks() == {}
        watched.world.settle()
        watched.world.assert_current()

    def test_rows_that_a_worker_is_at_are_released_when_it_is_done(self, watched: Watched) -> None:
        batch = watched.run()
        watched.fleet.beats["one"] = Beat(0, frozenset({batch.run_id}))
        watched.world.services.ledger.forget_all()
        watched.pass_s(20)
        assert watched.world.locks()
        watched.fleet.beats["one"] = Beat(50, frozenset())
        watched.pass_s(4)
        assert watched.world.locks()
        watched.pass_s(1)
        assert watched.world.locks() == {}

    def test_rows_are_released_when_the_message_is_nowhere(self, watched: Watched) -> None:
        """It was on its way to a worker that is given up."""
        batch = watched.run()
        watched.pass_s(10)
        watched.fleet.idle = True
        watched.fleet.beats["one"] = Beat(50, frozenset({batch.run_id}))
        watched.pass_s(10)
        watched.fleet.stopped.add("one")
        watched.pass_s(7)
        assert watched.world.locks()
        watched.pass_s(5)
        assert watched.fleet.requeued == ["one"]
        assert watched.world.locks() == {}
        watched.world.settle()
        watched.world.assert_current()

    def test_nothing_is_released_before_each_worker_was_heard(self, watched: Watched) -> None:
        """One that is slow to say that it lives may be at the run."""
        watched.run()
        watched.pass_s(2)
        watched.world.services.ledger.forget_all()
        watched.fleet.stopped.add("two")
        watched.pass_s(7)
        assert watched.world.locks()
        watched.fleet.stopped.clear()
        watched.pass_s(1)
        assert watched.world.locks() == {}

    def test_a_run_goes_on_with_the_messages_of_a_dead_worker(self, watched: Watched) -> None:
        """The worker died before it said that it is at the run."""
        batch = watched.run()
        watched.pass_s(1)
        watched.fleet.idle = True
        watched.fleet.stopped.add("one")
        watched.pass_s(8)
        assert watched.fleet.requeued == ["one"]
        watched.pass_s(2)
        watched.fleet.beats["two"] = Beat(50, frozenset({batch.run_id}))
        watched.pass_s(10)
        assert watched.world.locks()

    def test_rows_of_a_run_that_waits_in_a_queue_stay_its(self, watched: Watched) -> None:
        watched.run()
        watched.fleet.idle = True
        watched.pass_s(4)
        watched.fleet.idle = False
        watched.pass_s(1)
        watched.fleet.idle = True
        watched.pass_s(4)
        assert watched.world.locks()

    def test_a_run_that_ended_in_time_is_forgotten(self, watched: Watched) -> None:
        batch = watched.run()
        watched.world.carry_out(batch)
        watched.pass_s(1)
        watched.world.services.ledger.forget_all()
        watched.world.write(0, full_name="edited")
        other = watched.world.claim()  # by somebody else
        watched.pass_s(10)
        assert set(watched.world.locks().values()) == {other.run_id}

    def test_rows_that_another_run_has_by_then_stay_its(self, watched: Watched) -> None:
        batch = watched.run()
        watched.world.lose(batch)
        other = watched.world.claim()
        watched.world.services.ledger.forget_all()
        watched.pass_s(10)
        assert set(watched.world.locks().values()) == {other.run_id}

    def test_nothing_is_released_for_a_redis_that_was_away_and_kept_all(
        self, watched: Watched
    ) -> None:
        watched.run()
        watched.pass_s(2)
        watched.world.clock.pass_s(30.0)
        watched.pass_s(10)
        assert watched.world.locks()
