"""Redis, the database and the provider fail at random moments, their work done or not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from embed_star.errors import (
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    StoreUnavailable,
    TransientError,
)
from embed_star.models import Batch, Outcome
from tests.support.memory_services import LOCK_TTL_S, THRESHOLDS
from tests.support.memory_world import MemoryWorld
from tests.unit.core.conftest import MakeMemoryWorld

SEEDS = range(25)
"""Each some 40 ms. Of 2,000 none lost a row, or paid for a text twice."""
ATTEMPTS = 4


class Faults:
    """Lets methods fail as long as it is on, before they do their work or after it."""

    def __init__(self, seed: int) -> None:
        self.on = True
        self.chance = random.Random(seed)  # noqa: S311 - a seed repeats the case

    def add(self, target: Any, error: type[Exception], share: float, *methods: str) -> None:
        for name in methods:
            setattr(target, name, self._failing(getattr(target, name), error, share))

    def _failing(
        self, method: Callable[..., Any], error: type[Exception], share: float
    ) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if not self.on or self.chance.random() >= share:
                return method(*arguments, **named)
            if self.chance.random() < 0.5:
                method(*arguments, **named)
            raise error("no answer")

        return call

    def at_the_provider(self, world: MemoryWorld) -> Callable[[Sequence[str]], None]:
        def during(_: Sequence[str]) -> None:
            world.clock.pass_s(self.chance.choice([0.1, 5.0, 30.0]))
            if self.on and self.chance.random() < 0.1:
                errors = [ProviderUnavailable("down"), ProviderThrottled("429", 2.0)]
                raise self.chance.choice(errors)

        return during


def break_everything(world: MemoryWorld, seed: int) -> Faults:
    faults, backends = Faults(seed), world.backends
    away = RedisUnavailable, faults.chance.choice([0.02, 0.05, 0.1])
    faults.add(backends.locks, *away, "acquire", "extend", "release")
    faults.add(backends.ledger, *away, "begin", "start", "finish", "give_back", "counts")
    faults.add(backends.vectors, *away, "get_many", "set_many")
    faults.add(backends.suspects, *away, "counts", "add", "clear")
    faults.add(backends.throttled, *away, "counts", "add", "add_together", "clear")
    faults.add(backends.breaker, *away, "admit", "succeeded", "failed", "abandon", "state")
    down = StoreUnavailable, faults.chance.choice([0.0, 0.01, 0.03])
    faults.add(world.store.locks, *down, "acquire", "extend", "release", "held")
    faults.add(world.store.repos, *down, "load")
    faults.add(world.store.vectors, *down, "apply")
    world.provider.during = faults.at_the_provider(world)
    return faults


def embed(world: MemoryWorld, batch: Batch) -> list[Outcome]:
    """As the task does: again after an error, later when the provider says so."""
    for attempt in range(ATTEMPTS):
        try:
            return world.embed(batch, final=attempt == ATTEMPTS - 1)
        except TransientError as error:
            world.clock.pass_s(getattr(error, "retry_after_s", None) or 2.0)
    return []


def store(world: MemoryWorld, run_id: str, outcomes: list[Outcome]) -> None:
    for _ in range(ATTEMPTS):
        try:
            world.save(Batch(run_id, "", world.space.name, ()), outcomes)
        except TransientError:
            continue
        return


@pytest.mark.parametrize("seed", SEEDS)
def test_no_row_is_lost_and_no_text_is_paid_for_twice(
    make_world: MakeMemoryWorld, seed: int
) -> None:
    world = make_world(batch_size=3, chord_batches=2)
    faults = break_everything(world, seed)
    keys = world.write_many(faults.chance.choice([1, 5, 25]))
    backlog, recorder = world.backlog()
    for tick in range(12):
        faults.on = tick < 8
        world.clock.pass_s(faults.chance.choice([1.0, 20.0, LOCK_TTL_S + 1.0]))
        if not faults.on:
            world.clock.pass_s(LOCK_TTL_S + THRESHOLDS.open_s)
        backlog.rewind()
        try:
            backlog.dispatch()
        except TransientError:
            assert faults.on
        runs = list(recorder.runs)
        recorder.runs.clear()
        for _, run in runs:
            store(world, run[0].run_id, [one for batch in run for one in embed(world, batch)])
    assert len(world.vectors()) == len(keys)
    assert (world.outbox(), world.locks()) == ([], {})
    assert set(world.provider.paid.values()) == {1}
