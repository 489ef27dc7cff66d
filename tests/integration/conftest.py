"""Pools on a fresh database, and producers in threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from embed_star.calling.breaker.breaker import DEFAULTS
from embed_star.produce.producer import ProducerTimings
from embed_star.services.store import target_of
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Pool
from tests.conftest import DIMENSIONS, MakeSettings, MakeWorld
from tests.support.running_producer import TIMINGS, ObservedConnection, Running, Start
from tests.support.scripted_provider import ScriptedProvider
from tests.support.world import World

MakePool = Callable[..., Pool]


@pytest.fixture(scope="session")
def server() -> Iterator[ScriptedProvider]:
    with ScriptedProvider("--dimensions", str(DIMENSIONS)) as server:
        yield server


@pytest.fixture
def make_http_world(
    make_world: MakeWorld, server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> MakeWorld:
    """Worlds whose provider is `server`, over HTTP; its breaker closes after one success."""
    server.reset()
    usual = DEFAULTS["openai"]
    monkeypatch.setitem(DEFAULTS, "openai", replace(usual, successes_to_close=1))

    def make(**changes: Any) -> World:
        settings = {
            "embedding_provider": "openai",
            "openai_base_url": server.openai_url,
            "openai_api_key": "sk-secret",
            "openai_encoding_format": "base64",  # known: no call is made to find out
            "provider_requests_per_minute": 0,
        }
        world = make_world(**{**settings, **changes})
        world.use_own_provider()
        return world

    return make


@pytest.fixture
def target(make_settings: MakeSettings) -> Target:
    """The workload's user on a database with nothing in it."""
    return target_of(make_settings())


@pytest.fixture
def make_pool(target: Target) -> Iterator[MakePool]:
    """Pools that are closed at the end."""
    made: list[Pool] = []

    def make(target: Target = target, **options: object) -> Pool:
        made.append(Pool(target, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a producer; all are stopped at the end, and none may have died."""
    running: list[Running] = []
    owners = itertools.count()

    def begin(
        world: World,
        timings: ProducerTimings = TIMINGS,
        live: ObservedConnection | None = None,
    ) -> Running:
        running.append(Running(world, timings, f"producer {next(owners)}", live))
        return running[-1]

    yield begin
    for one in running:
        one.stop()
