"""Which model answers is judged by its vectors, and what was found is recorded, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from embed_star.calling.breaker.breaker import Phase
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import ProviderConfigError
from embed_star.store.tables.spaces import Identity
from tests.conftest import MakeWorld
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.world import World


@pytest.fixture
def make_process(make_http_world: MakeWorld) -> MakeWorld:
    """Processes on one database, one after the other; the model is a deployment's name."""
    settings = {"embedding_model": "my-deployment", "breaker_open_s": 0.2}
    return lambda **changes: make_http_world(**{**settings, **changes})


def recorded(world: World) -> Identity:
    found = world.store.spaces.identity(world.services.space)
    assert found is not None
    return found


def said(logs: list[Any], event: str) -> list[Any]:
    return [one for one in logs if one["event"] == event]


def probes(server: ScriptedProvider) -> int:
    return sum(one["texts"] == [PROBE_TEXT] for one in server.ledger())


def embed(world: World, *keys: int) -> None:
    for key in keys:
        world.write(key, full_name=f"owner/name{key}")
    world.settle_some()


class TestAnotherName:
    def test_is_accepted_where_its_vectors_are_one_model_s(
        self, make_process: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_process()
        server.script(model="text-embedding-ada-002")
        with capture_logs() as logs:
            embed(world, 1, 2, 3)
            embed(world, 4)
        world.assert_current()
        assert len(world.vectors()) == 4
        assert world.failures() == {}
        (line,) = said(logs, "model_has_another_name")
        assert line["answered"] == "text-embedding-ada-002"
        assert recorded(world).model == "text-embedding-ada-002"
        assert probes(server) == 2, "asked twice, once in the space's life"
        later = make_process()
        embed(later, 5)
        assert len(later.vectors()) == 5
        assert probes(server) == 2

    def test_is_refused_where_they_differ_from_call_to_call(
        self, make_process: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_process()
        server.script(model="other")
        answers = world.services.canary

        def ask() -> Any:
            server.script(salt=str(len(server.ledger())))
            return world.services.provider.embed([PROBE_TEXT])

        with pytest.raises(ProviderConfigError, match="another vector for one text each time"):
            answers.accept("other", ask)

    @pytest.mark.parametrize("process", ["the same process", "another process"])
    def test_with_the_same_vectors_is_recorded_anew(
        self, make_process: MakeWorld, server: ScriptedProvider, process: str
    ) -> None:
        world = make_process()
        embed(world, 1)
        assert recorded(world).model == "my-deployment"
        if process == "another process":
            world = make_process()
        server.script(model="my-model-2026-01-01")
        with capture_logs() as logs:
            embed(world, 2)
        assert len(world.vectors()) == 2
        (line,) = said(logs, "model_has_another_name")
        assert (line["was"], line["answered"]) == ("my-deployment", "my-model-2026-01-01")
        assert recorded(world).model == "my-model-2026-01-01"

    @pytest.mark.parametrize("process", ["the same process", "another process"])
    @pytest.mark.parametrize("first", ["my-deployment", "model-a"])
    def test_with_other_vectors_pauses_at_once(
        self, make_process: MakeWorld, server: ScriptedProvider, process: str, first: str
    ) -> None:
        world = make_process()
        server.script(model=first)
        embed(world, 1)
        if process == "another process":
            world = make_process()
        server.script(model="model-b", salt="b")
        with capture_logs() as logs:
            embed(world, 2, 3)
        assert set(world.vectors()) == {"1"}
        assert world.failures() == {}
        assert world.services.breaker.state().phase is Phase.OPEN
        (line,) = said(logs, "provider_paused")
        assert f"{first} has become model-b" in line["reason"]
        server.script(model=first, salt="")

        def is_done() -> bool:
            world.settle_some()
            return len(world.vectors()) == 3

        eventually(is_done, "the model of before is taken again", 20.0)
        world.assert_current()

    def test_none_is_as_good_as_the_one_asked_for(
        self, make_process: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_process()
        server.script(model="")
        embed(world, 1, 2)
        assert len(world.vectors()) == 2
        assert probes(server) == 0


def test_a_silent_change_is_noticed_when_our_text_is_asked_for_another_reason(
    make_process: MakeWorld, server: ScriptedProvider
) -> None:
    world = make_process()
    embed(world, 1)
    server.script(salt="new weights", poison="name2")
    with capture_logs() as logs:
        embed(world, 2)
    assert world.failures() == {}
    (line,) = said(logs, "provider_paused")
    assert "what answers as my-deployment has become another model" in line["reason"]


def test_a_search_is_not_answered_with_another_model_s_vector(
    make_process: MakeWorld, server: ScriptedProvider
) -> None:
    world = make_process()
    embed(world, 1)
    server.script(model="model-b", salt="b")
    with pytest.raises(ProviderConfigError, match="has become model-b"):
        make_process().services.search.find("anything", 1)


def test_a_migrate_keeps_what_was_recorded(
    make_process: MakeWorld, server: ScriptedProvider
) -> None:
    world = make_process()
    embed(world, 1)
    world.query("REMOVE EVENT embedding_outbox ON TABLE repo")
    assert world.store.spaces.ensure(world.services.space, world.settings.text_fields)
    assert recorded(world).model == "my-deployment"


class TestOneVectorForManyTexts:
    @pytest.mark.parametrize("provider", ["openai", "ollama"])
    def test_is_learned_by_the_first_call(
        self, make_process: MakeWorld, server: ScriptedProvider, provider: str
    ) -> None:
        world = make_process(embedding_provider=provider, ollama_url=server.url)
        server.script(vectors_max=1)
        with capture_logs() as logs:
            embed(world, *range(6))
            embed(world, *range(6, 12))
        assert len(world.vectors()) == 12
        assert world.failures() == {}
        asked = [len(one["texts"]) for one in server.asked()]
        assert sorted(asked) == [1] * 12 + [6]
        assert len(said(logs, "provider_takes_one_text")) == 1
        assert list(world.services.redis.scan_iter("*suspect*")) == []
        assert world.services.breaker.state().failed_requests == 0
        world.assert_current()

    def test_is_no_lesson_where_a_single_text_is_not_answered_either(
        self, make_process: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_process(breaker_failures=2)
        server.script(count_delta=-1)
        embed(world, 1, 2)
        assert world.services.gateway.most_texts > 2
        assert world.failures() == {}


def test_a_change_before_our_text_was_first_asked_for_is_noticed(
    make_process: MakeWorld, server: ScriptedProvider
) -> None:
    """The name is recorded first: there is nothing to compare the other one's vectors with."""
    world = make_process()
    answers = world.services.canary

    def changed() -> Any:
        server.script(model="model-b", salt="b")
        return world.services.provider.embed([PROBE_TEXT])

    answers.accept("my-deployment", changed)
    assert recorded(world) == Identity("my-deployment")
    embed(world, 1)
    assert world.vectors() == {}
    assert world.services.breaker.state().phase is Phase.OPEN
    server.reset()
    eventually(lambda: not world.services.breaker.state().retry_in_s, "it may be probed")
    embed(world, 2)
    assert len(world.vectors()) == 2
    assert recorded(world).probe is not None
