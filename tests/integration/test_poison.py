"""A row at fault stops no neighbour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.embed.text import estimate_tokens
from embed_star.errors import InputTooLong, ProviderUnavailable
from embed_star.models import Status
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.world import World


class TestAPoisonRow:
    def test_leaves_its_neighbours_embedded_in_the_same_run(self, world: World) -> None:
        world.write_many(10)
        world.write(7, full_name="poison")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 9, Status.FAILED: 1}
        assert set(world.failures()) == {"7"}
        assert world.failures()["7"]["reason"] == "rejected"
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    @pytest.mark.parametrize("rows", [1, 2, 3, 5, 10, 16])
    def test_is_found_in_few_calls_wherever_it_stands(self, world: World, rows: int) -> None:
        world.provider.rejects = lambda text: "poison" in text
        for at in range(rows):
            world.provider.calls.clear()
            for key in range(rows):
                world.write(key, full_name="poison" if key == at else "", topics=[at, key])
            world.carry_out(world.claim())
            assert set(world.failures()) == {str(at)}
            # One that came alone is asked for once more, since nobody was answered before.
            most = 2 * math.log2(rows) + 1 if rows > 1 else 2
            assert len(world.provider.asked) <= most
            probes = len(world.provider.calls) - len(world.provider.asked)
            assert probes <= (2 if rows > 1 else 1)
            assert max(world.provider.paid.values(), default=1) == 1
        world.assert_current()

    def test_among_several_is_found_like_the_others(self, world: World) -> None:
        world.write_many(9)
        for key in (0, 4, 8):
            world.write(key, full_name=f"poison {key}")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 6, Status.FAILED: 3}
        assert set(world.failures()) == {"0", "4", "8"}
        world.assert_current()

    def test_with_a_twin_of_the_same_text_takes_it_along(self, world: World) -> None:
        world.write("a", full_name="poison")
        world.write("b", full_name="poison")
        world.write("c", full_name="fine")
        world.provider.rejects = lambda text: "poison" in text
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1, Status.FAILED: 2}
        world.assert_current()

    def test_a_call_that_is_too_large_costs_no_row(self, world: World) -> None:
        world.write_many(10)
        world.provider.most_texts = 3
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 10}
        assert max(world.provider.paid.values()) == 1
        world.assert_current()

    def test_what_was_paid_for_before_an_outage_is_kept(self, world: World) -> None:
        world.write_many(8)
        world.write(7, full_name="poison")
        batch = world.claim()
        provider = world.provider

        def outage(_: object) -> None:
            if len(provider.paid) == 4:
                raise ProviderUnavailable("gone")

        provider.rejects = lambda text: "poison" in text
        provider.during = outage
        with pytest.raises(ProviderUnavailable):
            world.embed(batch, final=False)
        provider.during = lambda _: None
        tally = world.carry_out(batch)
        assert tally == {Status.CACHED: 4, Status.EMBEDDED: 3, Status.FAILED: 1}
        assert max(provider.paid.values()) == 1
        world.assert_current()


class TestALongText:
    def test_is_cut_always_at_the_same_place_and_marked(self, make_world: MakeWorld) -> None:
        world = make_world(text_max_tokens=100)
        world.write("long", full_name="a" * 301)
        world.write("fits", full_name="a" * 300 + "\n")
        world.settle()
        assert world.provider.calls == [("a" * 300,)]  # one text, to the model
        assert world.vectors()['"long"']["cut"] is True
        assert "cut" not in world.vectors()['"fits"']
        world.write("long", full_name="a" * 400)
        world.settle()
        assert len(world.provider.calls) == 1
        world.write("long", full_name="b")
        world.settle()
        assert "cut" not in world.vectors()['"long"']
        world.assert_current()

    def test_is_cut_where_the_model_reads_less(self, make_world: MakeWorld) -> None:
        world = make_world(embedding_provider="ollama", embedding_model="mxbai-embed-large:335m")
        world.write(1, full_name="a" * 10_000)
        world.settle()
        assert world.provider.calls == [("a" * 512 * 3,)]
        assert world.vectors()["1"]["cut"] is True

    def test_is_set_aside_with_that_reason(self, world: World) -> None:
        world.write_many(5)
        world.write(3, full_name="long")

        def during(texts: Sequence[str]) -> None:
            if "long" in texts:
                raise InputTooLong("400")

        world.provider.during = during
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 4, Status.FAILED: 1}
        assert world.failures()["3"]["reason"] == "too_long"
        world.assert_current()

    def test_of_other_letters_never_makes_a_request_too_large(self, make_world: MakeWorld) -> None:
        """The database counts characters, and those of Chinese are three bytes each."""
        world = make_world(batch_max_tokens=1000)
        for key in range(9):
            world.write(key, full_name=str(key) + "\u8a9e" * 300)
        world.settle()
        assert all(sum(map(estimate_tokens, call)) <= 1000 for call in world.provider.calls)
        assert len(world.provider.calls) >= 3
        world.assert_current()


class TestABadVector:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (math.nan, "not_finite"),
            (math.inf, "not_finite"),
            (-math.inf, "not_finite"),
            (0.0, "constant"),
            (0.3, "constant"),
            (1e30, "constant"),
        ],
    )
    def test_sets_that_row_alone_aside(self, world: World, value: float, reason: str) -> None:
        world.write_many(4)
        world.write(2, full_name="bad")
        world.provider.bad = {"bad": value}
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 3, Status.FAILED: 1}
        assert set(world.vectors()) == {"0", "1", "3"}
        assert world.failures()["2"]["reason"] == reason
        assert len(world.provider.asked) == 1
        assert world.provider.calls[1:] == [(PROBE_TEXT,)]
        world.assert_current()

    def test_is_not_cached(self, world: World) -> None:
        world.write(1, full_name="bad")
        world.provider.bad = {"bad": math.nan}
        world.settle()
        world.provider.bad = {}
        world.write(2, full_name="bad")
        assert world.carry_out(world.claim()) == {Status.EMBEDDED: 1}

    def test_of_wrong_dimensions_never_arrives(self, world: World) -> None:
        world.write_many(2)
        batch = world.claim()
        world.provider.dimensions = DIMENSIONS + 1
        assert world.carry_out(batch) == {Status.DEFERRED: 2}
        assert world.vectors() == {}
        assert world.failures() == {}
        assert len(world.outbox()) == 2
