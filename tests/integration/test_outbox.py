"""The outbox: pages by key range, lanes, and the times within its keys."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surrealdb.data.types.record_id import RecordID

from embed_star.models import Lane, key_text
from embed_star.store.client.connection import Connection
from embed_star.store.tables.outbox import Entry, group, ulid_ms, ulid_of_ms
from tests.support.world import World

A, B, C = (letter * 26 for letter in "ABC")


def put(world: World, lane: int, ulid: str, key: object = 1, size: object = 5) -> None:
    world.query(
        "CREATE embedding_outbox SET id = $id, repo = $repo, size = $size",
        id=[lane, ulid],
        repo=RecordID("repo", key),
        size=size,
    )


class TestPages:
    def test_in_the_order_of_the_keys_and_after_the_one_named(self, world: World) -> None:
        for ulid in (C, A, B):
            put(world, 0, ulid)
        outbox = world.store.outbox
        assert [entry.id for entry in outbox.page(Lane.FRESH, "", 10)] == [(0, A), (0, B), (0, C)]
        assert [entry.id for entry in outbox.page(Lane.FRESH, A, 10)] == [(0, B), (0, C)]
        assert [entry.id for entry in outbox.page(Lane.FRESH, B, 10)] == [(0, C)]
        assert outbox.page(Lane.FRESH, C, 10) == []
        # After a time, as `ulid_of_ms` names it: its own records are still to come.
        assert [entry.id for entry in outbox.page(Lane.FRESH, B[:10], 1)] == [(0, B)]

    def test_hold_as_many_as_asked(self, world: World) -> None:
        for ulid in (A, B, C):
            put(world, 1, ulid)
        outbox = world.store.outbox
        assert [entry.id for entry in outbox.page(Lane.BACKFILL, "", 2)] == [(1, A), (1, B)]

    def test_lanes_do_not_mix(self, world: World) -> None:
        put(world, 0, B)
        put(world, 1, A)
        put(world, 2, A)  # nobody's
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
        put(world, 0, A, key="⟨x⟩`", size=7)
        put(world, 0, B, key=["a", 1], size=None)
        pages = world.store.outbox.page(Lane.FRESH, "", 10)
        found = [(entry.id, key_text(entry.key), entry.size) for entry in pages]
        assert found == [((0, A), key_text("⟨x⟩`"), 7), ((0, B), key_text(["a", 1]), 0)]

    def test_give_no_key_for_what_is_no_repo(self, world: World) -> None:
        world.query("CREATE embedding_outbox SET id = [0, 'X'], repo = other:1, size = 1")
        world.query("CREATE embedding_outbox SET id = [0, 'Y'], repo = 'repo:1', size = 1")
        world.query("CREATE embedding_outbox SET id = [0, 'W'], size = 1")
        put(world, 0, "Z")
        page = world.store.outbox.page(Lane.FRESH, "", 10)
        assert [entry.id[1] for entry in page if entry.key is None] == ["W", "X", "Y"]
        assert [entry.id[1] for entry in page if entry.key is not None] == ["Z"]

    def test_records_that_are_no_repo_s_do_not_hide_the_others(self, world: World) -> None:
        rows = [{"id": [0, f"00{n:03}"], "size": 1} for n in range(500)]
        world.query("INSERT INTO embedding_outbox $rows RETURN NONE", rows=rows)
        world.write(1, full_name="x")
        backlog, recorder = world.backlog()
        for _ in range(3):
            backlog.dispatch()
        assert recorder.keys == ["1"]

    def test_a_key_of_an_odd_type_does_not_hide_the_others(self, world: World) -> None:
        world.query("CREATE repo:['a', d'2024-01-01T00:00:00Z'] SET full_name = 'x' RETURN NONE")
        world.write(1, full_name="x")
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert "1" in recorder.keys
        assert world.store.failures.by_reason() == {"key_type": 1}
        world.query("DELETE repo:['a', d'2024-01-01T00:00:00Z']")
        backlog.dispatch()
        assert world.store.outbox.counts()[Lane.FRESH] == 1  # the other one's

    def test_never_read_more_than_the_range(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        query = Connection.query

        def listen(self: Connection, sql: str, params: object = None, **more: object) -> object:
            asked.append(sql)
            return query(self, sql, params, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Connection, "query", listen)
        world.store.outbox.page(Lane.FRESH, A, 3)
        (sql,) = asked
        assert "[$lane, $after]>..[$lane, $last]" in sql
        assert sql.endswith("LIMIT $rows")
        assert "ORDER" not in sql


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
        put(world, 0, ulid_of_ms(1_700_000_000_123) + "0" * 16)
        world.write(1, full_name="x")
        assert outbox.counts() == {Lane.FRESH: 2, Lane.BACKFILL: 0}
        assert outbox.oldest_at_ms(Lane.FRESH) == 1_700_000_000_123
        assert outbox.oldest_at_ms(Lane.BACKFILL) is None


class TestUlids:
    @given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
    def test_times_come_back_and_keep_their_order(self, one: int, other: int) -> None:
        assert ulid_ms(ulid_of_ms(one)) == one
        assert (ulid_of_ms(one) < ulid_of_ms(other)) == (one < other)
        assert len(ulid_of_ms(one)) == 10

    def test_the_specification_s_example_is_read(self) -> None:
        assert ulid_ms("01ARYZ6S41TSV4RRFFQ69G5FAV") == 1469918176385

    def test_the_database_s_are_of_now(self, world: World) -> None:
        ((ulid, now),) = world.query("RETURN [rand::ulid(), time::now()]")
        assert abs(ulid_ms(ulid) - now.timestamp() * 1000) < 1000
        assert now.tzinfo is UTC or now.utcoffset() == datetime.now(UTC).utcoffset()


def test_groups_by_repo_in_the_order_of_first_sight() -> None:
    entries = [
        Entry((0, A), "x", 1),
        Entry((0, B), 1, 2),
        Entry((0, C), "x", 9),
        Entry((1, A), "1", 4),
    ]
    assert group(entries) == [
        ("x", ((0, A), (0, C)), 9),
        (1, ((0, B),), 2),
        ("1", ((1, A),), 4),
    ]
    assert group([]) == []
