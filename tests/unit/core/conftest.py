"""The core over the memory twins: no server is started, and nothing sleeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.memory_services import MemoryBackends
from tests.support.memory_world import MemoryWorld

MakeMemoryWorld = Callable[..., MemoryWorld]


@pytest.fixture
def make_world() -> MakeMemoryWorld:
    """A process with settings that differ; all of a test share database, Redis and time."""
    backends = MemoryBackends()
    return lambda **changes: MemoryWorld(backends, **changes)


@pytest.fixture
def world(make_world: MakeMemoryWorld) -> MemoryWorld:
    return make_world()
