"""What embedding every repo anew takes, as `migrate` says it before."""

from __future__ import annotations

from typing import Any

import pytest

from embed_star.cli import cost
from embed_star.embed.passages import split
from embed_star.embed.text import estimate_tokens
from tests.support.lab import example_readme
from tests.support.world import World


def told(world: World, **changes: Any) -> str:
    world.services.settings = world.settings.model_copy(update=changes)
    return cost.of_all(world.services)


def test_without_repos_it_is_nothing(world: World) -> None:
    assert told(world) == "there are no repos yet: it costs nothing"


@pytest.mark.parametrize(
    ("price", "said"), [(0.0, ""), (1e6, ": $100.00"), (0.02, ": less than $0.01")]
)
def test_tokens_and_their_price(world: World, price: float, said: str) -> None:
    for key in range(20):
        world.write(key, full_name="owner/name", description="a b c")  # 16 bytes: 6 tokens
    world.write("blank", full_name="")
    found = told(world, provider_price_per_million_tokens=price)
    rows, tokens = 21, 126
    price_of_all = said.replace("100.00", f"{tokens * price / 1e6:.2f}")
    assert found == f"that is {rows} repos, at most some {tokens} tokens{price_of_all}"


def test_passages_are_counted(world: World) -> None:
    assert cost.of_readmes(world.services) == ""
    readme = example_readme("one", "two")
    for key in range(20):
        world.write(key, full_name="owner/name", readme=readme if key % 2 else None)
    of_one = sum(estimate_tokens(one.text) for one in split(readme, world.settings.text_tokens))
    tokens = 10 * of_one
    assert cost.of_readmes(world.services).endswith(f"at most some {tokens:,} tokens")
    assert told(world) == f"that is 20 repos, at most some {tokens + 20 * 4:,} tokens"


def test_a_model_in_the_process_takes_time(world: World) -> None:
    world.write_many(20)
    local = {"embedding_provider": "local", "embedding_model": ""}
    assert (
        told(world, **local)
        == "that is 20 repos: less than half a minute of one core, and no money"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (29, "less than half a minute"),
        (61, "about a minute"),
        (5 * 60, "about 5 minutes"),
        (7200, "about 2 hours"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert cost.duration(seconds) == words
