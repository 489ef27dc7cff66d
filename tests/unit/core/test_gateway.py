"""The provider gateway: who is called, when, and whose fault a failed call was."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from embed_star.calling.breaker.breaker import Phase
from embed_star.calling.concurrency import ROUND_CALLS
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import (
    InputRejected,
    InputSuspected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderPaused,
    ProviderThrottled,
    ProviderUnavailable,
    ShuttingDown,
)
from embed_star.models import Status
from tests.conftest import DIMENSIONS
from tests.support.memory_services import THRESHOLDS
from tests.support.memory_world import MemoryWorld
from tests.support.scripted_answers import vector_for
from tests.unit.core.conftest import MakeMemoryWorld

PROMPT_S = 10.0


def failing_at(*texts: str):  # type: ignore[no-untyped-def]
    def fail(asked: Sequence[str]) -> None:
        if set(texts) & set(asked):
            raise ProviderUnavailable("no answer")

    return fail


class TestACall:
    def test_gives_a_vector_for_each_text(self, world: MemoryWorld) -> None:
        vectors = world.services.call("one", "two")
        assert np.array_equal(vectors[1], vector_for("two", DIMENSIONS))
        assert world.provider.calls == [("one", "two")]

    def test_with_vectors_of_a_wrong_length_pauses_everybody(self, world: MemoryWorld) -> None:
        world.provider.dimensions = DIMENSIONS - 1
        with pytest.raises(ProviderPaused):
            world.services.call("one")
        assert world.services.breaker.state().phase is Phase.OPEN

    def test_is_not_begun_when_the_process_ends(self, world: MemoryWorld) -> None:
        world.begin_shutdown()
        with pytest.raises(ShuttingDown):
            world.services.call("one")
        assert world.provider.calls == []

    def test_waits_for_one_of_few_places(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(parallel_workers=2)
        at_once, most, counting = 0, 0, threading.Lock()
        together = threading.Barrier(2)

        def count(_: Sequence[str]) -> None:
            nonlocal at_once, most
            with counting:
                at_once += 1
                most = max(most, at_once)
            together.wait(10.0)  # it is called by two at once, and never by more
            with counting:
                at_once -= 1

        world.provider.during = count
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(world.services.call, ["a", "b", "c", "d", "e", "f"]))
        assert most == 2

    def test_keeps_its_rows_while_it_waits_for_a_place(self, make_world: MakeMemoryWorld) -> None:
        world = make_world(parallel_workers=1)
        asked, answer, renewed = threading.Event(), threading.Event(), threading.Event()

        class Renewed:
            def renew(self) -> None:
                renewed.set()

        def hold(texts: Sequence[str]) -> None:
            if list(texts) == ["first"]:
                asked.set()
                assert answer.wait(PROMPT_S)

        def call(text: str) -> None:
            with world.services.gateway.embed([text], Renewed()):
                pass

        world.provider.during = hold
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(call, "first")
            assert asked.wait(PROMPT_S)
            renewed.clear()
            second = threads.submit(call, "second")
            assert renewed.wait(PROMPT_S)
            assert world.provider.calls == [("first",)]
            answer.set()
            first.result(PROMPT_S)
            second.result(PROMPT_S)

    def test_waits_for_a_place_no_longer_than_its_message_lasts(
        self, make_world: MakeMemoryWorld
    ) -> None:
        world = make_world(parallel_workers=1, batch_max_s=100.0)
        world.write_many(4)
        batch = world.claim()
        asked, answer = threading.Event(), threading.Event()

        def hold(_: Sequence[str]) -> None:
            asked.set()
            assert answer.wait(PROMPT_S)

        world.provider.during = hold
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(world.services.call, "first")
            assert asked.wait(PROMPT_S)
            second = threads.submit(world.embed, batch)
            while not second.done():  # its time begins when it is there
                world.clock.pass_s(101.0)
                wait([second], 0.05)
            answer.set()
            first.result(PROMPT_S)
        assert {one.status for one in second.result()} == {Status.DEFERRED}
        assert world.provider.calls == [("first",)]

    @pytest.mark.parametrize("outcome", ["429", "no answer"])
    def test_makes_fewer_at_once_when_it_fails(
        self, make_world: MakeMemoryWorld, outcome: str
    ) -> None:
        world = make_world(parallel_workers=1, most_calls=8)
        gateway = world.services.gateway
        assert gateway.calls_allowed == 1
        for text in map(str, range(ROUND_CALLS)):
            world.services.call(text)
        assert gateway.calls_allowed == 2
        together = threading.Barrier(2)
        error = ProviderThrottled("429") if outcome == "429" else ProviderUnavailable("503")

        def fail(texts: Sequence[str]) -> None:
            if list(texts) != [PROBE_TEXT]:
                together.wait(PROMPT_S)
                raise error

        world.provider.during = fail
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(world.services.call, text) for text in ("a", "b")]
            assert all(call.exception(PROMPT_S) for call in calls)
        assert gateway.calls_allowed == 1


class TestWhoseFaultItWas:
    def test_the_text_s_when_ours_is_answered(self, world: MemoryWorld) -> None:
        world.provider.during = failing_at("crash")
        with pytest.raises(InputSuspected) as caught:
            world.services.call("crash")
        assert caught.value.reason == "crashes_provider"
        assert world.provider.calls == [("crash",), (PROBE_TEXT,)]
        assert world.services.breaker.state().phase is Phase.CLOSED

    def test_the_provider_s_when_ours_is_not_answered(self, world: MemoryWorld) -> None:
        world.provider.down = ProviderUnavailable("503")
        with pytest.raises(ProviderUnavailable):
            world.services.call("one")
        assert world.services.breaker.state().failures > 0

    def test_nobody_s_when_it_was_over_in_a_moment(self, world: MemoryWorld) -> None:
        world.provider.errors = [ProviderUnavailable("503"), ProviderUnavailable("503")]
        with pytest.raises(InputSuspected):
            world.services.call("one")
        assert world.services.call("one").shape == (1, DIMENSIONS)

    def test_a_firewall_s_403_to_one_text_is_that_text_s(self, world: MemoryWorld) -> None:
        world.provider.errors = [ProviderAuthError("403")]
        with pytest.raises(InputSuspected) as caught:
            world.services.call("DROP TABLE")
        assert caught.value.reason == "rejected"

    @pytest.mark.parametrize("error", [ProviderAuthError("401"), ProviderConfigError("404")])
    def test_a_wrong_key_or_model_pauses_everybody_at_once(
        self, world: MemoryWorld, error: Exception
    ) -> None:
        world.provider.down = error
        with pytest.raises(ProviderPaused):
            world.services.call("one")
        assert len(world.provider.calls) == 2, "our own text is asked for once"
        assert world.services.breaker.state().phase is Phase.OPEN

    def test_a_refusal_is_not_held_against_the_provider(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda text: text == "poison"
        for _ in range(THRESHOLDS.failures + 1):
            with pytest.raises(InputRejected):
                world.services.call("poison")
        assert world.services.breaker.state().phase is Phase.CLOSED

    def test_a_429_is_not_held_against_the_provider(self, world: MemoryWorld) -> None:
        for _ in range(THRESHOLDS.failures + 1):
            world.provider.errors = [ProviderThrottled("429", 1.0)]
            with pytest.raises(ProviderThrottled):
                world.services.call("one")
            world.clock.pass_s(2.0)
        assert world.services.breaker.state().phase is Phase.CLOSED

    def test_a_refusal_of_our_own_text_pauses_everybody(self, world: MemoryWorld) -> None:
        world.provider.rejects = lambda _: True
        with pytest.raises(ProviderPaused, match="refuses our own text"):
            world.services.ask_canary()


class TestAPause:
    def pause(self, world: MemoryWorld) -> None:
        world.provider.down = ProviderAuthError("401")
        with pytest.raises(ProviderPaused):
            world.services.call("one")
        world.provider.down = None
        world.provider.calls.clear()

    def test_keeps_every_process_away(self, make_world: MakeMemoryWorld) -> None:
        one, other = make_world(), make_world()
        self.pause(one)
        for world in (one, other):
            with pytest.raises(ProviderPaused) as caught:
                world.services.call("one")
            assert 0 < caught.value.retry_in_s <= THRESHOLDS.open_s
            assert world.provider.calls == []

    def test_ends_with_an_answer_to_our_own_text(self, world: MemoryWorld) -> None:
        self.pause(world)
        world.clock.pass_s(THRESHOLDS.open_s)
        world.services.call("one")
        assert world.provider.calls == [(PROBE_TEXT,), ("one",)]
        assert world.services.breaker.state().phase is Phase.CLOSED

    def test_goes_on_when_our_own_text_is_not_answered(self, world: MemoryWorld) -> None:
        self.pause(world)
        world.clock.pass_s(THRESHOLDS.open_s)
        world.provider.down = ProviderUnavailable("503")
        with pytest.raises(ProviderPaused):
            world.services.call("one")
        assert world.provider.calls == [(PROBE_TEXT,)]
        assert world.services.breaker.state().retry_in_s > 0
