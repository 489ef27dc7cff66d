"""Pages by key range: in order, complete, and as fast at the end of a table as at its start."""

from __future__ import annotations

import time
from uuid import UUID

from embed_star.models import Key, Lane
from embed_star.store.client.codec import record
from embed_star.store.tables.keyset import records_after
from tests.support.world import World

KEYS: list[Key] = [
    *(3, -1, -(2**63), "a", "3", "⟨x⟩`", UUID(int=1), UUID(int=2)),
    *(["a", 1], ["a", [2]], {"n": 1}, {"n": {"x": [UUID(int=3)]}}),
]


def keys_from(world: World, after: Key | None, rows: int = 100) -> list[str]:
    source, bound = records_after(world.store.database, "walked", after)
    (found,) = world.query(f"SELECT VALUE id FROM {source} LIMIT $rows", rows=rows, **bound)
    return [repr(one.id) for one in found]


def test_what_comes_after_a_key_of_any_type(world: World) -> None:
    rows = [{"id": record("walked", key)} for key in KEYS]
    world.query("DEFINE TABLE walked; INSERT INTO walked $rows RETURN NONE", rows=rows)
    (found,) = world.query("SELECT VALUE id FROM walked")
    everything = [repr(one.id) for one in found]
    assert len(everything) == len(KEYS)
    assert keys_from(world, None) == everything
    for place, one in enumerate(found):
        assert keys_from(world, one.id) == everything[place + 1 :]


def test_a_page_costs_the_same_however_long_the_rest_is(world: World) -> None:
    """A bound range was read to its end by server 3, whatever the limit."""
    world.query("DEFINE TABLE walked")
    text = "x" * 10_000
    for start in range(0, 4000, 500):
        rows = [{"id": record("walked", key), "t": text} for key in range(start, start + 500)]
        world.query("INSERT INTO walked $rows RETURN NONE", rows=rows)

    def fastest_s(after: Key) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            assert len(keys_from(world, after, rows=10)) == 10
            taken.append(time.perf_counter() - began)
        return min(taken)

    assert fastest_s(0) < 10 * fastest_s(3980) + 0.005


def test_a_page_of_the_outbox_costs_the_same_however_long_it_is(world: World) -> None:
    outbox, rows = world.store.outbox, "FOR $i IN 0..10000 { CREATE embedding_outbox CONTENT "
    first = {}
    for length in (10_000, 40_000):
        while outbox.counts()[Lane.BACKFILL] < length:
            world.query(rows + "{ id: [1, rand::ulid()], repo: repo:1, size: 3 } RETURN NONE }")
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            assert len(outbox.page(Lane.BACKFILL, "", 10)) == 10
            assert outbox.is_longer(Lane.BACKFILL, 100)
            taken.append(time.perf_counter() - began)
        first[length] = min(taken)
    assert first[40_000] < 2 * first[10_000] + 0.005
