"""Redis, the database and the provider fail at random moments, their work done or not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from embed_star.embed.passages import split
from embed_star.errors import (
    ProviderThrottled,
    ProviderUnavailable,
    RedisUnavailable,
    StoreUnavailable,
    TransientError,
)
from embed_star.models import MOST_PASSAGES, Batch, Outcome
from tests.support.lab import example_readme
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


@pytest.mark.parametrize("seed", SEEDS)
def test_nor_is_a_passage_while_readmes_are_edited_and_rows_deleted(
    make_world: MakeMemoryWorld, seed: int
) -> None:
    world = make_world(batch_size=3, chord_batches=2)
    faults = break_everything(world, seed)
    faults.add(world.store.passages, StoreUnavailable, 0.05, "load")
    readmes = {key: [f"{key} {n}" for n in range(faults.chance.randrange(4))] for key in range(8)}
    for key, parts in readmes.items():
        world.write(key, full_name=f"a/{key}", readme=example_readme(*parts))
    backlog, recorder = world.backlog()
    for tick in range(14):
        faults.on = tick < 9
        if faults.on:
            user(world, readmes, faults.chance, tick)
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
            outcomes = [one for batch in run for one in embed(world, batch)]
            if faults.on and faults.chance.random() < 0.3:
                user(world, readmes, faults.chance, f"{tick} in flight")
            store(world, run[0].run_id, outcomes)
    world.assert_current()
    for key, parts in readmes.items():
        (state,) = world.store.passages.load([(key, MOST_PASSAGES)])
        wanted = split(example_readme(*parts), world.settings.text_tokens)
        assert len(state.vectors) == 1 + len(parts)
        assert {one.hash for one in wanted} < state.vectors.keys()
    assert world.store.passages.count() == sum(map(len, readmes.values()))
    assert set(world.provider.paid.values()) == {1}


def user(
    world: MemoryWorld, readmes: dict[int, list[str]], chance: random.Random, when: object
) -> None:
    """Replaces a part of a README, takes all of it away, or deletes a row."""
    if not readmes:
        return
    key = chance.choice(sorted(readmes))
    parts = readmes[key]
    match chance.randrange(4):
        case 0:
            world.delete(key)
            del readmes[key]
            return
        case 1:
            parts.clear()
        case _ if parts:
            parts[chance.randrange(len(parts))] = f"{key} edited {when}"
        case _:
            parts.append(f"{key} new {when}")
    world.write(key, readme=example_readme(*parts))
