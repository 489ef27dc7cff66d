"""What the import writes goes the whole way; the contract is in test_store_repos.py."""

from __future__ import annotations

from tests.support.world import World


def test_nothing_is_none_and_not_null(world: World) -> None:
    world.query("DEFINE FIELD description ON repo TYPE option<string>")
    world.store.repos.upsert([(1, {"full_name": "a", "description": None})], lane=0)
    world.settle()
    world.assert_current()
