"""`Outbox`, held against each store: pages in the order of the ULIDs, and lanes."""

from __future__ import annotations

from datetime import UTC, datetime

from embed_star.models import Key, Lane, key_text
from embed_star.store.tables.outbox import Entry, ulid_of_ms
from tests.support.world import World

A, B, C = (letter * 26 for letter in "ABC")
UNUSABLE: Key = ["a", datetime(2024, 1, 1, tzinfo=UTC)]


class TestPages:
    def test_in_the_order_of_the_keys_and_after_the_one_named(self, world: World) -> None:
        for ulid in (C, A, B):
            world.put(0, ulid)
        outbox = world.store.outbox
        assert [entry.id for entry in outbox.page(Lane.FRESH, "", 10)] == [(0, A), (0, B), (0, C)]
        assert [entry.id for entry in outbox.page(Lane.FRESH, A, 10)] == [(0, B), (0, C)]
        assert [entry.id for entry in outbox.page(Lane.FRESH, B, 10)] == [(0, C)]
        assert outbox.page(Lane.FRESH, C, 10) == []
        # After a time, as `ulid_of_ms` names it: its own records are still to come.
        assert [entry.id for entry in outbox.page(Lane.FRESH, B[:10], 1)] == [(0, B)]

    def test_hold_as_many_as_asked(self, world: World) -> None:
        for ulid in (A, B, C):
            world.put(1, ulid)
        outbox = world.store.outbox
        assert [entry.id for entry in outbox.page(Lane.BACKFILL, "", 2)] == [(1, A), (1, B)]

    def test_lanes_do_not_mix(self, world: World) -> None:
        world.put(0, B)
        world.put(1, A)
        world.put(2, A)  # nobody's
        outbox = world.store.outbox
        assert [entry.id for entry in outbox.page(Lane.FRESH, "", 10)] == [(0, B)]
        assert [entry.id for entry in outbox.page(Lane.BACKFILL, "", 10)] == [(1, A)]
        assert outbox.counts() == {Lane.FRESH: 1, Lane.BACKFILL: 1}

    def test_walk_over_everything_once(self, world: World) -> None:
        world.write_many(23)
        seen: list[Entry] = []
        while page := world.store.outbox.page(Lane.FRESH, seen[-1].id[1] if seen else "", 5):
            seen += page
        assert sorted(entry.key for entry in seen) == list(range(23))
        assert [entry.id for entry in seen] == sorted(entry.id for entry in seen)

    def test_give_the_key_and_the_size(self, world: World) -> None:
        world.put(0, A, key="⟨x⟩`", size=7)
        world.put(0, B, key=["a", 1], size=None)
        pages = world.store.outbox.page(Lane.FRESH, "", 10)
        found = [(entry.id, key_text(entry.key), entry.size) for entry in pages]
        assert found == [((0, A), key_text("⟨x⟩`"), 7), ((0, B), key_text(["a", 1]), 0)]

    def test_give_no_key_for_what_names_no_usable_repo(self, world: World) -> None:
        world.put(0, "W", key=None)
        world.put(0, "X", key=UNUSABLE)
        world.put(0, "Z")
        page = world.store.outbox.page(Lane.FRESH, "", 10)
        assert [entry.id[1] for entry in page if entry.key is None] == ["W", "X"]
        assert [entry.id[1] for entry in page if entry.key is not None] == ["Z"]

    def test_say_whether_a_lane_is_longer(self, world: World) -> None:
        outbox = world.store.outbox
        assert not outbox.is_longer(Lane.BACKFILL, 0)
        for ulid in (A, B, C):
            world.put(1, ulid)
        assert outbox.is_longer(Lane.BACKFILL, 2)
        assert not outbox.is_longer(Lane.BACKFILL, 3)
        assert not outbox.is_longer(Lane.FRESH, 0)


def test_present_are_those_that_are_left(world: World) -> None:
    world.put(0, A)
    world.put(1, B)
    outbox = world.store.outbox
    assert outbox.present([(0, A), (1, A), (1, B)]) == {(0, A), (1, B)}
    outbox.fail_unusable([(0, A)], world.space)
    assert outbox.present([(0, A), (1, B)]) == {(1, B)}
    assert outbox.present([]) == set()


class TestAnnounce:
    def test_adds_a_record_for_each(self, world: World) -> None:
        world.store.outbox.announce([("a", 1), (2, 3), ("a", 4)], Lane.BACKFILL)
        world.store.outbox.announce([], Lane.FRESH)
        assert world.outbox(Lane.FRESH) == []
        found = [(entry.key, entry.size) for entry in world.outbox(Lane.BACKFILL)]
        assert sorted(found, key=repr) == [("a", 1), ("a", 4), (2, 3)]

    def test_records_are_counted_and_the_oldest_is_known(self, world: World) -> None:
        outbox = world.store.outbox
        assert outbox.counts() == {Lane.FRESH: 0, Lane.BACKFILL: 0}
        assert outbox.oldest_at_ms(Lane.FRESH) is None
        world.put(0, ulid_of_ms(1_700_000_000_123) + "0" * 16)
        world.write(1, full_name="x")
        assert outbox.counts() == {Lane.FRESH: 2, Lane.BACKFILL: 0}
        assert outbox.oldest_at_ms(Lane.FRESH) == 1_700_000_000_123
        assert outbox.oldest_at_ms(Lane.BACKFILL) is None

    def test_of_a_backfill_stays_out_of_the_fresh_lane(self, world: World) -> None:
        world.store.repos.upsert([(1, {"full_name": "x"})], lane=1)
        world.write(2, full_name="x")
        assert [entry.key for entry in world.outbox(Lane.BACKFILL)] == [1]
        assert [entry.key for entry in world.outbox(Lane.FRESH)] == [2]


class TestFailUnusable:
    def test_notes_a_row_whose_key_no_message_carries(self, world: World) -> None:
        world.write(UNUSABLE, full_name="x")
        world.write(1, full_name="x")
        unusable = [entry.id for entry in world.outbox() if entry.key is None]
        assert len(unusable) == 1
        world.store.outbox.fail_unusable(unusable, world.space)
        assert [entry.key for entry in world.outbox()] == [1]
        assert world.store.failures.by_reason() == {"key_type": 1}

    def test_forgets_the_failure_of_a_deleted_row(self, world: World) -> None:
        world.write(UNUSABLE, full_name="x")
        world.store.outbox.fail_unusable([entry.id for entry in world.outbox()], world.space)
        world.delete(UNUSABLE)
        world.store.outbox.fail_unusable([entry.id for entry in world.outbox()], world.space)
        assert world.outbox() == []
        assert world.store.failures.by_reason() == {}

    def test_drops_a_record_of_no_repo(self, world: World) -> None:
        world.put(0, A, key=None)
        world.store.outbox.fail_unusable([(0, A), (0, B)], world.space)
        assert world.outbox() == []
        assert world.store.failures.by_reason() == {}
