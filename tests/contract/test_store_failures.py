"""`Failures`, held against each store: pages, counts, and what is released."""

from __future__ import annotations

from uuid import UUID

from embed_star.models import Key, Lane, key_text
from embed_star.store.tables.failures import RELEASED
from embed_star.store.tables.vectors import BulkWrite, FailureWrite
from tests.support.world import World

KEYS: list[Key] = [1, 2, "a", UUID(int=1), ["x", 1]]


def fail(world: World, keys: list[Key], reason: str = "rejected") -> None:
    """What a run does that finds these rows at fault."""
    assert all(world.store.locks.acquire(keys, "t", 60.0))
    failed = [FailureWrite(key, f"h{n}", reason) for n, key in enumerate(keys)]
    world.store.vectors.apply(BulkWrite("t", failures=failed, locks=keys))


def test_are_paged_in_key_order(world: World) -> None:
    fail(world, KEYS)
    world.put_failure("zz", space="other", reason="r", attempts=1)
    failures = world.store.failures
    in_order = [key_text(key) for key in KEYS]
    assert [key_text(one.key) for one in failures.page(None, 10)] == in_order
    walked: list[Key] = []
    while page := failures.page(walked[-1] if walked else None, 2):
        walked += [one.key for one in page]
    assert [key_text(key) for key in walked] == in_order
    (first,) = failures.page(None, 1)
    assert (first.reason, first.text_hash, first.attempts) == ("rejected", "h0", 1)
    assert first.space == world.space.name
    assert first.at.tzinfo is not None
    assert failures.by_reason() == {"rejected": 5}


def test_may_be_asked_for_by_reason(world: World) -> None:
    fail(world, [1, 3], "rejected")
    fail(world, [2, 4], "too_long")
    failures = world.store.failures
    assert [one.key for one in failures.page(None, 10, "too_long")] == [2, 4]
    assert [one.key for one in failures.page(2, 10, "too_long")] == [4]
    assert [one.key for one in failures.page(None, 1, "too_long")] == [2]
    assert failures.page(None, 10, "unknown") == []
    assert failures.by_reason() == {"rejected": 2, "too_long": 2}


def test_are_found_by_key(world: World) -> None:
    fail(world, [1, "1"])
    assert {key_text(one.key) for one in world.store.failures.find(["1", 2, 1])} == {"1", '"1"'}
    assert world.store.failures.find([]) == []


def test_a_released_one_is_pending_and_goes_on_being_counted(world: World) -> None:
    fail(world, [1, 2])
    world.store.failures.release([1])
    assert [one.key for one in world.store.failures.page(None, 10)] == [2]
    assert world.store.failures.by_reason() == {"rejected": 1}
    assert world.store.failures.find([1]) == []
    assert [(entry.key, entry.size) for entry in world.outbox(Lane.FRESH)] == [(1, 0)]
    assert world.failures()["1"]["text_hash"] == RELEASED
    fail(world, [1])
    (failure,) = world.store.failures.find([1])
    assert (failure.attempts, failure.reason) == (2, "rejected")


def test_a_release_of_a_row_without_one_announces_it(world: World) -> None:
    world.store.failures.release(["unknown"])
    assert [entry.key for entry in world.outbox(Lane.FRESH)] == ["unknown"]
    assert world.failures() == {}
