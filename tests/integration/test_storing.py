"""The bulk write after a batch, and rows that change while they are in flight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from embed_star.embed.text import text_hash
from embed_star.models import Lane, Status
from embed_star.values import RecordID
from tests.conftest import MakeWorld
from tests.support.world import World

CACHED, EMBEDDED, FAILED = Status.CACHED, Status.EMBEDDED, Status.FAILED

DEFERRED, GONE, LOST, UNCHANGED = Status.DEFERRED, Status.GONE, Status.LOST, Status.UNCHANGED


def statuses(outcomes: list) -> list[Status]:  # type: ignore[type-arg]
    return [one.status for one in outcomes]


class TestStoring:
    def test_what_was_lost_meanwhile_is_left_and_the_rest_written(self, world: World) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch, 1)
        world.store.locks.acquire([1], "another", 60.0)
        world.lose(batch, 2)
        assert world.save(batch, outcomes) == {EMBEDDED: 2, LOST: 2}
        assert set(world.vectors()) == {"0", "3"}
        assert world.locks() == {"1": "another"}
        assert {entry.key for entry in world.outbox()} == {1, 2}

    def test_a_run_that_lost_all_its_locks_stores_nothing(self, world: World) -> None:
        world.write_many(4)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.lose(batch)
        assert world.save(batch, outcomes) == {LOST: 4}
        assert world.vectors() == {}
        assert len(world.outbox()) == 4

    def test_without_the_cached_vectors_rows_stay_pending(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("embed_star.services.backends.CACHE_LOCAL_ENTRIES", 0)
        world = make_world()
        world.write_many(3)
        batch = world.claim()
        outcomes = world.embed(batch)
        world.services.redis.flushall()
        assert world.save(batch, outcomes) == {DEFERRED: 3}
        assert world.vectors() == {}
        assert len(world.outbox()) == 3
        world.lose(batch)  # as they would end by themselves
        world.settle()
        world.assert_current()

    def test_another_process_stores_what_one_embedded(self, make_world: MakeWorld) -> None:
        one, other = make_world(), make_world()
        one.write_many(3)
        batch = one.claim()
        assert other.save(batch, one.embed(batch)) == {EMBEDDED: 3}
        assert other.provider.calls == []
        one.assert_current()

    def test_a_vector_that_came_from_elsewhere_is_replaced(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        outcomes = world.embed(batch)
        backup = RecordID(world.table, 1)
        world.query("CREATE $id SET vector = [1.0], text_hash = 'x'", id=backup)
        assert world.save(batch, outcomes) == {EMBEDDED: 2}
        world.assert_current()

    def test_more_rows_than_one_transaction_takes_are_stored(self, make_world: MakeWorld) -> None:
        world = make_world(batch_size=300)
        world.write_many(250)
        assert world.carry_out(world.claim()) == {EMBEDDED: 250}
        world.assert_current()

    def test_a_stored_run_is_over_and_its_locks_are_free(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        runs = world.services.ledger
        assert (runs.counts().in_flight, runs.counts().queued) == (3, 3)
        assert world.services.embedder.started(batch, "its message")
        assert (runs.counts().in_flight, runs.counts().queued) == (3, 0)
        world.carry_out(batch)
        counts = runs.counts()
        assert (counts.in_flight, counts.queued, counts.finished_total) == (0, 0, 3)
        assert runs.totals() == {"embedded": 3, "finished": 3}
        assert world.services.locks.acquire([0, 1, 2], "next", 60.0) == [True] * 3


class TestACopyOfAMessage:
    def test_is_known_until_the_run_is_over(self, world: World) -> None:
        world.write_many(3)
        batch = world.claim()
        started, runs = world.services.embedder.started, world.services.ledger
        parts = [replace(batch, rows=(row,)) for row in batch.rows]
        found = [
            started(parts[part], one) is not None
            for part, one in ((0, "a"), (1, "b"), (0, "a"), (1, "b"), (2, "c"))
        ]
        assert found == [True, True, False, False, True]
        assert runs.counts().queued == 0  # a copy was not counted again
        world.carry_out(batch)
        assert not world.services.redis.keys("*:runs:started:*")

    def test_is_forgotten_with_a_run_that_never_ends(self, make_world: MakeWorld) -> None:
        world = make_world(visibility_timeout_s=120)
        world.write(1, full_name="x")
        batch = world.claim()
        assert world.services.embedder.started(batch, "a")
        (name,) = cast("list[bytes]", world.services.redis.keys("*:runs:started:*"))
        assert 119 <= cast("int", world.services.redis.ttl(name)) <= 120

    def test_is_not_seen_in_a_command_that_redis_got_twice(self, world: World) -> None:
        """As the client does when the answer is lost."""
        world.write(1, full_name="x")
        batch, redis = world.claim(), world.services.redis
        execute, sent = redis.execute_command, []

        def twice(*arguments: Any, **options: Any) -> Any:
            sent.append(arguments)
            execute(*arguments, **options)
            return execute(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(redis, "execute_command", twice)
            assert world.services.embedder.started(batch, "a")
        assert sent
        assert not world.services.embedder.started(batch, "a")

    def test_is_not_known_without_redis(self, make_world: MakeWorld) -> None:
        """It would be paid for twice then, rather than not at all."""
        world = make_world()
        world.write(1, full_name="x")
        batch = world.claim()
        cut_off = make_world(redis_url="redis://127.0.0.1:1/0").services.embedder
        assert cut_off.started(batch, "a")
        assert cut_off.started(batch, "a")


class TestEditedInFlight:
    """Promise W: whatever comes in between, the newest text wins in the end."""

    def test_an_edit_during_the_call_is_embedded_next(self, world: World) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        world.provider.during = lambda _: world.write(1, full_name="new")
        outcomes = world.embed(batch)
        world.provider.during = lambda _: None
        world.save(batch, outcomes)
        assert len(world.outbox(Lane.FRESH)) == 1
        world.settle()
        assert world.vectors()["1"]["text_hash"] == text_hash("new")
        assert world.provider.paid == {"old": 1, "new": 1}
        world.assert_current()

    def test_an_edit_between_the_two_tasks_is_embedded_next(self, world: World) -> None:
        world.write(1, full_name="old")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.write(1, full_name="new")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()

    def test_a_later_run_s_vector_is_not_overwritten(self, world: World) -> None:
        world.write(1, full_name="old")
        late = world.claim()
        outcomes = world.embed(late)
        world.lose(late)  # stopped for longer than its locks
        world.write(1, full_name="new")
        world.settle()
        assert world.save(late, outcomes) == {LOST: 1}
        world.assert_current()

    def test_a_row_deleted_during_the_call_leaves_no_vector(self, world: World) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        world.provider.during = lambda _: world.delete(1)
        world.carry_out(batch)
        world.settle()
        assert world.vectors() == {}
        world.assert_current()

    def test_a_row_deleted_and_made_again_is_embedded_anew(self, world: World) -> None:
        world.write(1, full_name="x")
        batch = world.claim()
        outcomes = world.embed(batch)
        world.delete(1)
        world.write(1, full_name="y")
        world.save(batch, outcomes)
        world.settle()
        world.assert_current()
