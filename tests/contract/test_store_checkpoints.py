"""`Checkpoints` and `Timestamps`, held against each store."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from embed_star.models import Key, key_text
from embed_star.store.tables.checkpoints import Phase, Progress
from tests.conftest import MakeWorld
from tests.support.world import World


def test_there_is_none_at_first(world: World) -> None:
    checkpoints = world.store.checkpoints
    assert checkpoints.load() is None
    assert checkpoints.finished_at() is None
    assert checkpoints.finished_age() is None


@pytest.mark.parametrize("key", [None, 1, "1", UUID(int=1), ["a", 1, [None]], {"a": 1.5}], ids=repr)
def test_progress_comes_back_as_it_went(world: World, key: Key | None) -> None:
    claimed = () if key is None else (key, 2)
    progress = Progress(Phase.RETIRED, key, 5, 3, 2, space="old", claimed=claimed)
    world.store.checkpoints.save(Progress())
    world.store.checkpoints.save(progress)
    found = world.store.checkpoints.load()
    assert found is not None
    assert repr(found.after).replace("(", "[").replace(")", "]").replace(",]", "]") == repr(
        key
    ).replace("(", "[").replace(")", "]")
    assert (found.phase, found.checked, found.found) == (Phase.RETIRED, 5, 3)
    assert (found.removed, found.space) == (2, "old")
    assert [key_text(one) for one in found.claimed] == [key_text(one) for one in claimed]


def test_the_end_is_kept_until_the_next_one(world: World) -> None:
    checkpoints = world.store.checkpoints
    checkpoints.save(Progress())
    assert checkpoints.finished_at() is None
    checkpoints.save(Progress(Phase.DONE, checked=5))
    finished, age = checkpoints.finished_at(), checkpoints.finished_age()
    assert finished is not None
    assert finished.tzinfo is not None
    assert age is not None
    assert timedelta(0) <= age < timedelta(minutes=1)
    checkpoints.save(Progress())  # the next walk
    assert checkpoints.finished_at() == finished
    checkpoints.save(Progress(Phase.DONE))
    later = checkpoints.finished_at()
    assert later is not None
    assert later > finished


def test_a_walk_has_the_age_of_its_beginning(world: World) -> None:
    checkpoints = world.store.checkpoints
    assert checkpoints.unfinished_age() is None
    checkpoints.save(Progress())
    first = checkpoints.unfinished_age()
    assert first is not None
    checkpoints.save(Progress(checked=1))
    later = checkpoints.unfinished_age()
    assert later is not None
    assert timedelta(0) <= first < later < timedelta(minutes=1)


def test_forgotten_it_begins_anew(world: World) -> None:
    world.store.checkpoints.save(Progress(Phase.DONE))
    world.store.checkpoints.forget()
    world.store.checkpoints.forget()
    assert world.store.checkpoints.load() is None
    assert world.store.checkpoints.finished_at() is None


def test_each_space_has_its_own(make_world: MakeWorld) -> None:
    old, new = make_world(), make_world(embedding_model="another")
    old.store.checkpoints.save(Progress(checked=1))
    assert new.store.checkpoints.load() is None
    new.store.checkpoints.save(Progress(checked=2))
    assert old.store.checkpoints.load() == Progress(checked=1)


def test_times_are_kept_by_name(world: World) -> None:
    timestamps = world.store.timestamps
    assert timestamps.at("swept") is None
    timestamps.set("swept")
    first = timestamps.at("swept")
    assert first is not None
    assert first.tzinfo is not None
    assert timestamps.at("other") is None
    timestamps.set("swept")
    later = timestamps.at("swept")
    assert later is not None
    assert later > first
