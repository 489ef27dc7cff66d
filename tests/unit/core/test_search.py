"""A search beside batches of the same process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import ConfigError, InputRejected
from embed_star.providers.roles import Role
from embed_star.search import Search
from embed_star.search.queries import QueryEmbedder
from tests.support.memory_world import MemoryWorld
from tests.support.servers import eventually
from tests.unit.core.conftest import MakeMemoryWorld


def search_of(world: MemoryWorld) -> Search:
    services = world.services
    return Search(
        services.store.retrieval,
        QueryEmbedder(
            gateway=services.gateway,
            cache=services.cache,
            validator=services.bisector.validator,
            max_tokens=500,
        ),
    )


def test_a_search_and_a_batch_do_not_wait_for_each_other_over_the_model(
    make_world: MakeMemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(parallel_workers=1)
    batch_calls = threading.Event()

    def note(texts: Sequence[str]) -> None:
        if texts == ["row"]:
            batch_calls.set()

    def identity(_: object) -> None:
        batch_calls.wait(0.5)  # with the place free again, the batch would have it by then

    world.provider.answers_as = world.services.space.model
    world.provider.during = note
    monkeypatch.setattr(world.services.store.spaces, "identity", identity)
    with ThreadPoolExecutor(2) as threads:
        search = threads.submit(search_of(world).find, "query", 1)
        eventually(lambda: bool(world.provider.calls), "the search is at the provider")
        batch = threads.submit(world.services.call, "row")
        try:
            assert search.result(5.0) == []
            assert len(batch.result(5.0)) == 1
        finally:
            world.begin_shutdown()  # threads that wait for each other end by it


def test_a_refusal_of_our_own_text_is_not_called_one_of_the_query(world: MemoryWorld) -> None:
    world.provider.answers_as = "another-model"
    world.provider.rejects = lambda text: text == PROBE_TEXT
    with pytest.raises(Exception, match="refuses our own text as well") as caught:
        search_of(world).find("query", 1)
    assert not isinstance(caught.value, ConfigError | InputRejected)


def test_a_query_is_asked_as_a_query_and_our_own_text_as_a_row(world: MemoryWorld) -> None:
    world.provider.answers_as = world.services.space.model  # so that our own text is asked for
    search_of(world).find("query", 1)
    asked = dict(zip(world.provider.calls, world.provider.roles, strict=True))
    assert asked == {("query",): Role.QUERY, (PROBE_TEXT,): Role.DOCUMENT}


def test_a_row_s_vector_is_never_a_query_s(world: MemoryWorld) -> None:
    search, text = search_of(world), "the same text"
    world.services.call(text)
    search.find(text, 1)
    search.find(text, 1)  # from the cache
    asked = zip(world.provider.calls, world.provider.roles, strict=True)
    assert [role for texts, role in asked if texts == (text,)] == [Role.DOCUMENT, Role.QUERY]
