"""Another space becomes the active one while work of the old one is under way."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from embed_star.errors import AnotherSpace, SpaceRetired
from embed_star.models import Batch, Outcome, Status
from embed_star.produce.leadership import LEASE_KEY, Leadership
from embed_star.produce.notifier import Notifier
from embed_star.produce.producer import Producer, ProducerTimings
from embed_star.store.tables.vectors import BulkWrite
from tests.conftest import MakeWorld
from tests.support.world import World


@pytest.fixture
def old(make_world: MakeWorld) -> World:
    return make_world()


def migrate(make_world: MakeWorld) -> World:
    """What `embed-star migrate` does with the settings of another model."""
    return make_world(embedding_model="another")


def noticed(world: World) -> None:
    """A second later."""
    world.store.space_watch._asked = float("-inf")


class TestTheOldFleet:
    def test_writes_nothing_late(self, old: World, make_world: MakeWorld) -> None:
        """Not even within the second in which it has not noticed yet."""
        old.write_many(3)
        batch = old.claim()
        outcomes = old.embed(batch)
        migrate(make_world)
        with pytest.raises(SpaceRetired):
            old.store.vectors.apply(BulkWrite(batch.run_id, locks=[0], outbox=batch.rows[0].outbox))
        assert old.save(batch, outcomes) == {Status.DEFERRED: 3}
        assert old.vectors() == {}
        assert len(old.outbox()) == 3
        assert old.locks() == {}
        assert old.services.redis.keys(f"{old.services.redis_prefix}lock:*") == []

    def test_embeds_nothing_more(self, old: World, make_world: MakeWorld) -> None:
        old.write_many(3)
        batch = old.claim()
        migrate(make_world)
        noticed(old)
        outcomes = old.embed(batch)
        assert {one.status for one in outcomes} == {Status.DEFERRED}
        assert old.provider.calls == []
        assert old.locks() == {}

    def test_claims_nothing_more(self, old: World, make_world: MakeWorld) -> None:
        old.write_many(3)
        new = migrate(make_world)
        noticed(old)
        backlog, recorder = old.backlog()
        assert backlog.dispatch().dispatched == 0
        assert recorder.runs == []
        new.settle()
        new.assert_current()

    def test_leaves_the_lease_to_another_producer(self, old: World, make_world: MakeWorld) -> None:
        backlog, _ = old.backlog()
        producer = Producer(
            backlog=backlog,
            leadership=Leadership(old.services.leases, "old", 60.0),
            notifier=Notifier(old.services.ledger, None, poll_s=0.05),
            timings=ProducerTimings(0.05, 60.0, 10.0, 100),
        )
        producer.tick()
        assert producer.leading
        assert not old.services.leases.acquire([LEASE_KEY], "new", 60.0)[0]
        migrate(make_world)
        noticed(old)
        producer.tick()
        assert not producer.leading
        assert old.services.leases.acquire([LEASE_KEY], "new", 60.0)[0]

    def test_works_on_when_its_space_is_active_again(
        self, old: World, make_world: MakeWorld
    ) -> None:
        old.write_many(3)
        migrate(make_world)
        noticed(old)
        assert old.backlog()[0].dispatch().dispatched == 0
        old.store.spaces.ensure(old.services.space, old.settings.text_fields)
        noticed(old)
        old.settle()
        old.assert_current()


class TestMessagesOfTheOtherFleet:
    def test_are_not_the_old_one_s_to_answer(self, old: World, make_world: MakeWorld) -> None:
        new = migrate(make_world)
        new.write_many(3)
        batch = new.claim()
        with pytest.raises(AnotherSpace):
            old.services.embedder.embed(batch)
        outcomes = new.embed(batch)
        with pytest.raises(AnotherSpace):
            old.services.storer.store(batch.run_id, outcomes, batch.space)
        assert new.save(batch, outcomes) == {Status.EMBEDDED: 3}
        new.assert_current()

    def test_are_unlocked_by_the_new_one(self, old: World, make_world: MakeWorld) -> None:
        """Or their rows would wait for the locks to end."""
        old.write_many(6)
        old.settle()
        for key in range(6):
            old.write(key, full_name=f"edited {key}")
        batch = old.claim()
        new = migrate(make_world)
        half = [replace(batch, rows=batch.rows[:3]), replace(batch, rows=batch.rows[3:])]
        assert {one.status for one in new.embed(half[0])} == {Status.DEFERRED}
        settled = [Outcome(row, Status.UNCHANGED) for row in half[1].rows]
        tally = new.services.storer.store(batch.run_id, settled, batch.space)
        assert tally[Status.DEFERRED] == 3
        assert new.locks() == {}
        assert len(new.outbox()) == 6
        new.settle()
        new.assert_current()


def test_what_a_later_version_adds_to_a_message_is_overlooked(old: World) -> None:
    old.write_many(2)
    batch = old.claim()
    message = batch.to_json()
    message["added"] = {"by": "a later version"}
    message["rows"] = [[*row, "added"] for row in message["rows"]]
    assert Batch.from_json(json.loads(json.dumps(message))) == batch
    (outcome, _) = old.embed(batch)
    assert Outcome.from_json([*outcome.to_json(), "added"]) == outcome
