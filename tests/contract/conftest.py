"""The store in memory, in a server and in the embedded engine, asked in the same words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embed_star.settings import load_settings
from tests.conftest import DIMENSIONS, MakeWorld, fresh_database
from tests.support.clock import TickingClock
from tests.support.github import GitHubStub
from tests.support.memory_services import MemoryBackends
from tests.support.memory_world import MemoryWorld
from tests.support.world import World

SETTINGS = {
    "embedding_provider": "local",
    "embedding_model": "test-model",
    "embedding_dimensions": DIMENSIONS,
}
SERVERS = {"server": "surreal", "embedded": "gateway"}


@pytest.fixture
def stub() -> Iterator[GitHubStub]:
    """A GitHub that answers as it is told."""
    one = GitHubStub()
    yield one
    one.close()


@pytest.fixture(params=["memory", *SERVERS])
def make_world(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[MakeWorld]:
    """A world with settings that differ; more than one share the database. None has a Redis."""
    if request.param == "memory":
        backends = MemoryBackends(TickingClock())
        yield lambda **changes: MemoryWorld(backends, **changes)
        return
    database = fresh_database(request.getfixturevalue(SERVERS[request.param]))
    made: list[World] = []

    def make(**changes: object) -> World:
        made.append(World(load_settings(_env_file=None, **(SETTINGS | database | changes))))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """The database's schema in place, no repo yet."""
    return make_world()
