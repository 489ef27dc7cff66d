"""Rows that are set aside: why, how often, until when."""

from __future__ import annotations

import pytest

from embed_star.errors import ProviderAuthError, ProviderConfigError, ProviderError
from embed_star.models import Status
from embed_star.values import RecordID
from tests.conftest import MakeWorld
from tests.support.world import World


class TestARowThatCannotBeRead:
    """Engine 2.3.10 takes a string with a NUL, and fails every query that would read it."""

    def write_nul(self, world: World) -> None:
        fields = {"full_name": "a\0b"}
        world.query(
            "UPSERT $id MERGE $fields RETURN NONE", id=RecordID("repo", "nul"), fields=fields
        )

    def test_stops_no_neighbour(self, world: World) -> None:
        world.write_many(5)
        self.write_nul(world)
        world.settle()
        assert {str(n) for n in range(5)} <= set(world.vectors())
        settled = {**world.vectors(), **world.failures()}
        assert '"nul"' in settled
        assert world.outbox() == []

    def test_is_healed_when_it_is_mended(self, world: World) -> None:
        self.write_nul(world)
        world.settle()
        world.query("UPSERT repo:nul MERGE { full_name: 'fine' } RETURN NONE")
        world.settle()
        world.assert_current()
        assert world.failures() == {}

    def test_is_found_once_by_reconciling(self, world: World) -> None:
        self.write_nul(world)
        world.settle()
        reconciler = world.services.reconciler
        progress = reconciler.begin()
        while progress.phase != "done":
            progress = reconciler.step(progress)
        assert progress.found == 0


def test_a_released_failure_is_tried_again(world: World) -> None:
    world.provider.rejects = lambda text: text.startswith("x")
    world.write(1, full_name="x")
    world.settle()
    world.provider.rejects = lambda _: False
    world.store.failures.release([1])
    assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}
    world.assert_current()


def test_attempts_are_counted_over_releases(world: World) -> None:
    world.provider.rejects = lambda text: text.startswith("x")
    world.write(1, full_name="x")
    world.settle()
    for attempts in (2, 3):
        world.store.failures.release([1])
        assert world.store.failures.page(None, 10) == []  # it is pending, not set aside
        assert world.store.failures.by_reason() == {}
        world.settle()
        (failure,) = world.store.failures.find([1, 2])
        assert (failure.attempts, failure.reason) == (attempts, "rejected")


def test_a_release_is_found_by_reconciling_too(world: World) -> None:
    world.provider.rejects = lambda text: text.startswith("x")
    world.write(1, full_name="x")
    world.settle()
    world.store.failures.release([1])
    world.query("DELETE embedding_outbox")
    reconciler = world.services.reconciler
    progress = reconciler.begin()
    while progress.phase != "done":
        progress = reconciler.step(progress)
    assert progress.found == 1


def test_a_change_of_space_heals(make_world: MakeWorld) -> None:
    old = make_world()
    old.provider.rejects = lambda text: "x" in text
    old.write(1, full_name="x")
    old.settle()
    assert set(old.failures()) == {"1"}
    new = make_world(embedding_model="another")
    reconciler = new.services.reconciler
    progress = reconciler.begin()
    while progress.phase != "done":
        progress = reconciler.step(progress)
    assert progress.found == 1
    assert new.carry_out(new.claim()) == {Status.EMBEDDED: 1}
    assert new.failures() == {}
    new.assert_current()


@pytest.mark.parametrize("error", [ProviderAuthError("401"), ProviderConfigError("404")])
def test_a_wrong_key_or_model_sets_nothing_aside(world: World, error: ProviderError) -> None:
    world.write_many(3)
    world.provider.down = error
    for _ in range(5):
        batch = world.claim()
        assert world.carry_out(batch) == {Status.DEFERRED: 3}
        world.lose(batch)
    assert world.failures() == {}
    assert len(world.outbox()) == 3
