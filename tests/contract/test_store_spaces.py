"""Spaces, the watch on them and what is left in them, held against each store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embed_star.errors import ConfigError, SpaceRetired
from embed_star.models import Key
from embed_star.store.tables.checkpoints import Progress
from embed_star.store.tables.space_watch import EVERY_S, SpaceWatch
from embed_star.store.tables.spaces import Identity
from embed_star.store.tables.vectors import BulkWrite, FailureWrite, VectorWrite
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.clock import Clock
from tests.support.world import World


@pytest.fixture
def old(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture
def new(old: World, make_world: MakeWorld) -> World:
    """Of another space, which is the active one now."""
    return make_world(embedding_model="another", text_fields=("full_name",))


def fill(world: World, *keys: Key, failed: tuple[Key, ...] = ()) -> None:
    """Give `keys` vectors, and `failed` failures."""
    everything = [*keys, *failed]
    assert all(world.store.locks.acquire(everything, "run", 60.0))
    vector = np.ones(DIMENSIONS, dtype=np.float32)
    world.store.vectors.apply(
        BulkWrite(
            "run",
            vectors=[VectorWrite(key, vector, "h") for key in keys],
            failures=[FailureWrite(key, "h", "rejected") for key in failed],
            locks=everything,
        )
    )


class TestEnsure:
    def test_twice_changes_nothing(self, world: World) -> None:
        world.store.checkpoints.save(Progress(checked=1))
        assert world.store.spaces.ensure(world.space, world.settings.text_fields) is False
        assert world.store.spaces.is_active(world.space)
        assert world.store.checkpoints.load() == Progress(checked=1)

    def test_another_space_retires_the_one_before(self, old: World, make_world: MakeWorld) -> None:
        fill(old, 1)
        new = make_world(embedding_model="another", text_fields=("full_name",))
        spaces = new.store.spaces
        assert spaces.retired() == [old.space]
        assert [spaces.state(one) for one in (old.space, new.space)] == ["retired", "active"]
        assert {one.space.name: one.active for one in spaces.known()} == {
            old.space.name: False,
            new.space.name: True,
        }
        assert spaces.count(old.space) == 1
        assert spaces.count(new.space) == 0
        # And back again.
        old.store.checkpoints.save(Progress(checked=1))
        assert old.store.spaces.ensure(old.space, old.settings.text_fields) is True
        assert spaces.retired() == [new.space]
        assert len(old.vectors()) == 1
        assert old.store.checkpoints.load() is None, "a reconcile is due"

    def test_the_event_is_of_the_new_fields(self, old: World, new: World) -> None:
        new.write(1, description="not part of it", full_name="x")
        new.write(1, description="edited")
        assert len(new.outbox()) == 1
        new.write(1, full_name="y")
        assert len(new.outbox()) == 2

    def test_a_retired_one_can_be_added(self, world: World) -> None:
        other = replace(world.space, model="added")
        assert world.store.spaces.state(other) is None
        for _ in range(2):
            world.store.spaces.add_retired(other, ["full_name"])
            assert world.store.spaces.state(other) == "retired"
        world.store.spaces.add_retired(world.space, ["full_name"])
        assert world.store.spaces.is_active(world.space)


class TestDrop:
    def test_a_retired_one_goes_with_all_that_is_its(
        self, old: World, make_world: MakeWorld
    ) -> None:
        fill(old, 1, 2, failed=(3,))
        old.store.checkpoints.save(Progress(checked=1))
        new = make_world(embedding_model="another")
        fill(new, 1, failed=(4,))
        new.store.spaces.drop(old.space.name)
        assert new.store.spaces.retired() == []
        assert new.store.spaces.state(old.space) is None
        assert new.store.spaces.count(old.space) == 0
        assert set(new.failures()) == {"4"}
        assert set(new.vectors()) == {"1"}
        assert old.store.checkpoints.load() is None

    def test_the_active_and_an_unknown_one_stay(self, world: World) -> None:
        with pytest.raises(ConfigError, match="is the active space"):
            world.store.spaces.drop(world.space.name)
        with pytest.raises(ConfigError, match="there is no space none"):
            world.store.spaces.drop("none")
        assert world.store.spaces.is_active(world.space)


class TestIdentity:
    PROBE = np.linspace(-1, 1, DIMENSIONS, dtype=np.float32)

    def test_comes_back_bit_by_bit(self, world: World) -> None:
        spaces = world.store.spaces
        assert spaces.identity(world.space) is None
        spaces.record_identity(world.space, Identity("model", self.PROBE))
        found = spaces.identity(world.space)
        assert found is not None
        assert found.probe is not None
        assert (found.model, found.probe.tobytes()) == ("model", self.PROBE.tobytes())

    def test_a_name_alone_takes_the_place_of_nothing(self, world: World) -> None:
        spaces = world.store.spaces
        spaces.record_identity(world.space, Identity("first"))
        spaces.record_identity(world.space, Identity("second"))
        assert spaces.identity(world.space) == Identity("first")
        spaces.record_identity(world.space, Identity("third", self.PROBE))
        spaces.record_identity(world.space, Identity("fourth"))
        found = spaces.identity(world.space)
        assert found is not None
        assert found.model == "third"
        assert found.probe is not None

    def test_of_an_unknown_space_is_not_recorded(self, world: World) -> None:
        other = replace(world.space, model="unknown")
        world.store.spaces.record_identity(other, Identity("model"))
        assert world.store.spaces.identity(other) is None

    def test_outlives_the_retirement(self, old: World, make_world: MakeWorld) -> None:
        old.store.spaces.record_identity(old.space, Identity("model", self.PROBE))
        make_world(embedding_model="another")
        old.store.spaces.ensure(old.space, old.settings.text_fields)
        found = old.store.spaces.identity(old.space)
        assert found is not None
        assert found.model == "model"


class TestTheWatch:
    def test_asks_once_in_a_second(self, old: World, make_world: MakeWorld) -> None:
        clock = Clock()
        watch = SpaceWatch(old.store.spaces, old.space, clock)
        assert not watch.is_retired()
        make_world(embedding_model="another")
        assert not watch.is_retired()
        assert watch.is_retired(at_once=True)
        old.store.spaces.ensure(old.space, old.settings.text_fields)
        assert watch.is_retired()
        clock.pass_s(EVERY_S)
        assert not watch.is_retired()

    def test_a_space_that_was_dropped_is_retired(self, old: World, new: World) -> None:
        new.store.spaces.drop(old.space.name)
        assert SpaceWatch(old.store.spaces, old.space).is_retired()

    def test_nothing_is_written_into_a_retired_space(self, old: World, new: World) -> None:
        assert old.store.locks.acquire([1], "run", 60.0) == [True]
        with pytest.raises(SpaceRetired):
            old.store.vectors.apply(BulkWrite("run", locks=[1]))
        assert old.locks() == {"1": "run"}


class TestWhatIsLeftOfDeletedRepos:
    @pytest.fixture
    def sweep(self, world: World):  # type: ignore[no-untyped-def]
        """As `Orphans.sweep`; the World of servers has them in its services."""
        if hasattr(world.store, "orphans"):
            return world.store.orphans.sweep
        return world.services.reconciler._orphans.sweep

    def test_goes_page_by_page(self, world: World, sweep) -> None:  # type: ignore[no-untyped-def]
        for key in (1, 3):
            world.write(key, full_name="x")
        fill(world, failed=(1, 2, 3, 4, "a"))
        assert sweep("embedding_failure", None, 2) == ([1, 2], 1, True)
        assert sweep("embedding_failure", 2, 2) == ([3, 4], 1, True)
        assert sweep("embedding_failure", 4, 2) == (["a"], 1, False)
        assert set(world.failures()) == {"1", "3"}
        assert sweep("embedding_failure", None, 9) == ([1, 3], 0, False)

    def test_goes_from_tables_of_vectors(self, world: World, sweep) -> None:  # type: ignore[no-untyped-def]
        world.write(1, full_name="x")
        fill(world, 1, "1", ["a", 1])
        keys, removed, more = sweep(world.space.table, None, 9)
        assert (len(keys), removed, more) == (3, 2, False)
        assert set(world.vectors()) == {"1"}
