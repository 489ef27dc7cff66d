"""`Client` and `AsyncClient`, on both SurrealDBs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

from embed_star import AsyncClient, Client, EmbedStarError, Result
from embed_star.errors import (
    ConfigError,
    NotEmbedded,
    SchemaError,
    StoreUnavailable,
    UnknownRepo,
)
from embed_star.models import Lane
from embed_star.status import report
from tests.support.lab import example_readme
from tests.support.world import World


@pytest.fixture
def filled(world: World) -> World:
    """Three repos, embedded."""
    for name, stars in (("a/one", 1), ("b/two", 2), ("c/three", 3)):
        world.write(
            name,
            full_name=name,
            html_url=f"https://github.com/{name}",
            description=f"{name} in words",
            language="Rust",
            stargazers_count=stars,
            topics=["x", 7, "y"],
        )
    world.settle()
    return world


def settings_of(world: World) -> dict[str, Any]:
    """The keywords with which a client finds the world's database."""
    values = {name.lower(): value for name, value in world.environment.items()}
    return {**values, "embedding_provider": "local"}


def with_provider(client: Client, world: World) -> None:
    """The world's provider, in place of the settings' one."""
    assert client._services is not None
    client._services.provider = world.provider


@pytest.fixture
def client(filled: World) -> Iterator[Client]:
    with Client(**settings_of(filled)) as client:
        with_provider(client, filled)
        yield client


class TestSearch:
    def test_gives_what_a_person_wants_to_know(self, client: Client, filled: World) -> None:
        best, *_ = found = client.search("a/one\na/one in words\nRust", k=3)
        assert len(found) == 3
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        (one,) = [one for one in found if one.full_name == "a/one"]
        assert one == Result(
            full_name="a/one",
            score=one.score,
            url="https://github.com/a/one",
            description="a/one in words",
            language="Rust",
            stars=1,
            topics=("x", "y"),
            reason="meaning",
            embedded_at=filled.vectors()['"a/one"']["embedded_at"],
            _json=one.to_dict(),
        )
        why = {"name": None, "cosine": best.score}
        assert best.to_dict() == {"score": best.score, "why": why, "repo": best.repo}
        assert best.repo["id"] == f"repo:`{best.full_name}`"

    def test_filters(self, client: Client) -> None:
        assert {one.full_name for one in client.search("x", min_stars=2)} == {"b/two", "c/three"}
        assert client.search("x", language="Go") == []

    def test_rows_with_other_types_do_not_stop_it(self, client: Client, filled: World) -> None:
        filled.query("UPDATE repo SET topics = 'x', stargazers_count = 'many', language = [1]")
        filled.query("UPDATE repo SET full_name = NONE, html_url = 'javascript:alert(1)'")
        for one in client.search("x"):
            assert one.full_name in {"a/one", "b/two", "c/three"}
            assert (one.topics, one.stars, one.language, one.url) == ((), None, None, None)

    def test_says_that_a_name_was_found(self, client: Client) -> None:
        best, second, *_ = client.search("B/two")
        assert best.full_name == "b/two"
        assert best.reason == "owner and name; meaning"
        assert second.reason == "meaning"

    @pytest.mark.parametrize("k", [0, -1, 1001])
    def test_a_wrong_count_is_one_sentence(self, client: Client, k: int) -> None:
        with pytest.raises(ConfigError, match=f"not {k:,}"):
            client.search("x", k=k)

    @pytest.mark.parametrize("query", ["", " \n\t", "\0"])
    def test_an_empty_query_is_one_sentence(self, client: Client, query: str) -> None:
        with pytest.raises(ConfigError, match="the query is empty"):
            client.search(query)

    @pytest.mark.parametrize("query", ["🦀 🐙", "база данных", "x" * 100_000])
    def test_any_text_is_a_query(self, client: Client, query: str) -> None:
        assert len(client.search(query)) == 3


class TestSimilar:
    def test_leaves_the_repository_itself_out(self, client: Client, filled: World) -> None:
        calls = len(filled.provider.calls)
        found = client.similar("A/One", k=5)
        assert {one.full_name for one in found} == {"b/two", "c/three"}
        assert found == sorted(found, key=lambda one: -one.score)
        assert all(one.embedded_at for one in found)
        assert [one.full_name for one in client.similar("a/one", owner="B")] == ["b/two"]
        assert client.similar("a/one", pushed_since=date(2026, 1, 1), topic="x") == []
        assert len(client.similar("a/one", archived=False, language=None)) == 2
        assert client.similar("a/one", k=5, min_stars=3)[0].full_name == "c/three"
        assert len(filled.provider.calls) == calls

    def test_of_what_has_no_vector(self, client: Client, filled: World) -> None:
        filled.write("new/one", full_name="new/one")
        with pytest.raises(NotEmbedded, match="new/one"):
            client.similar("new/one")

    def test_of_what_nobody_knows(self, client: Client) -> None:
        with pytest.raises(UnknownRepo, match="did you mean a/one") as error:
            client.similar("x/one")
        assert error.value.near == ("a/one",)


class TestGet:
    def test_gives_the_row_and_its_state(self, client: Client, filled: World) -> None:
        found = client.get("A/ONE")
        assert (found.full_name, found.stars, found.topics) == ("a/one", 1, ("x", "y"))
        assert found.embedded_at == filled.vectors()['"a/one"']["embedded_at"]
        assert (found.state, found.cut, found.failure) == ("embedded", False, "")
        assert found.passages == 0
        assert found.to_dict()["repo"]["description"] == "a/one in words"
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()

    def test_counts_the_passages_of_its_readme(self, client: Client, filled: World) -> None:
        filled.write("a/one", readme=example_readme("one", "two"))
        filled.settle()
        assert client.get("a/one").passages == client.status().passages == 2

    def test_says_why_there_is_no_vector(self, client: Client, filled: World) -> None:
        filled.write("bad/one", full_name="bad/one")
        filled.provider.rejects = lambda text: "bad/one" in text
        filled.settle()
        found = client.get("bad/one")
        assert (found.state, found.embedded_at, found.failure) == ("failed", None, "rejected")

    @pytest.mark.parametrize("name", ["", "no slash", "x/y", "x" * 10_000, "a\0/one\n"])
    def test_a_name_that_no_row_has(self, client: Client, name: str) -> None:
        with pytest.raises(UnknownRepo) as error:
            client.get(name + "z")
        assert len(str(error.value).splitlines()) == 1
        assert len(str(error.value)) < 500


class TestEnqueue:
    def test_rows_are_embedded_that_no_event_announced(self, client: Client, filled: World) -> None:
        with filled.unannounced():
            filled.write("new/one", full_name="new/one")
        assert filled.outbox() == []
        assert client.enqueue(["New/One"]).to_dict() == {"enqueued": ["New/One"], "unknown": []}
        assert [one.key for one in filled.outbox(Lane.FRESH)] == ["new/one"]
        filled.settle()
        filled.assert_current()
        assert client.get("new/one").embedded_at is not None

    def test_a_failed_row_is_tried_again(self, client: Client, filled: World) -> None:
        filled.write("bad/one", full_name="bad/one")
        filled.provider.rejects = lambda text: "bad/one" in text
        filled.settle()
        filled.provider.rejects = lambda _: False
        client.enqueue(["bad/one", "a/one"])
        filled.settle()
        filled.assert_current()
        assert client.get("bad/one").embedded_at is not None

    def test_a_current_row_costs_nothing(self, client: Client, filled: World) -> None:
        paid, dates = filled.provider.paid.copy(), filled.vectors()
        client.enqueue(["a/one", "b/two"])
        client.enqueue("a/one")
        filled.settle()
        assert filled.provider.paid == paid
        assert filled.vectors().keys() == dates.keys()

    def test_names_that_no_row_has_are_told(self, client: Client, filled: World) -> None:
        found = client.enqueue(["x/y", "a/one", "x/y", ""])
        assert (found.enqueued, found.unknown) == (("a/one",), ("x/y", ""))
        assert len(filled.outbox()) == 1
        assert client.enqueue([]).to_dict() == {"enqueued": [], "unknown": []}
        assert len(filled.outbox()) == 1


class TestStatus:
    def test_is_the_command_s(self, client: Client, filled: World) -> None:
        filled.write("new", full_name="new/one")
        found, expected = client.status(), report(filled.services)
        assert (found.embedded, sum(found.pending.values())) == (3, 1)
        assert found.to_dict().keys() == expected.to_dict().keys()
        assert found.problems == []


class TestErrors:
    def test_settings_are_checked_at_once_and_together(self, filled: World) -> None:
        wrong = {**settings_of(filled), "batch_size": 0, "db_pool_size": -1}
        with pytest.raises(ConfigError) as error:
            Client(**wrong)
        (line,) = str(error.value).splitlines()
        assert "BATCH_SIZE" in line
        assert "DB_POOL_SIZE" in line
        with pytest.raises(ConfigError, match="db_passwort"):
            Client(**settings_of(filled), db_passwort="x")

    def test_a_database_that_is_away(self, filled: World) -> None:
        with Client(**{**settings_of(filled), "db_url": "ws://127.0.0.1:1"}) as away:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="DB_URL"):
                    away.status()

    def test_another_model_than_the_database_s(self, client: Client, filled: World) -> None:
        other = {**settings_of(filled), "embedding_dimensions": 9}
        with Client(**other) as other, pytest.raises(SchemaError, match="embed-star migrate"):
            other.search("x")

    def test_a_space_that_is_retired_meanwhile(self, client: Client, filled: World) -> None:
        client.status()
        filled.query("UPDATE embedding_space SET state = 'retired'")
        assert client._services is not None
        client._services.store.space_watch._asked = float("-inf")  # a second later
        with pytest.raises(SchemaError, match="embed-star migrate"):
            client.search("x")

    def test_a_closed_client(self, client: Client) -> None:
        client.status()
        client.close()
        client.close()
        for call in (client.status, lambda: client.search("x")):
            with pytest.raises(EmbedStarError, match="closed"):
                call()


def test_threads_share_a_client_from_the_first_call_on(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        queries = [f"query {n % 3}" for n in range(24)]
        found = list(
            pool.map(lambda query: [one.full_name for one in client.search(query)], queries)
        )
    assert all(found[n] == found[n % 3] for n in range(24))
    assert client.status().pool["created_total"] <= 8


class TestAsync:
    @pytest.fixture
    def run(self, filled: World) -> Callable[..., Any]:
        """Runs a coroutine function with a client."""

        def run(use: Callable[[AsyncClient], Any]) -> Any:
            async def main() -> Any:
                async with AsyncClient(**settings_of(filled)) as client:
                    with_provider(client._client, filled)
                    return await use(client)

            return asyncio.run(main())

        return run

    def test_has_the_methods_of_the_other(self) -> None:
        def public(kind: type) -> set[str]:
            return {name for name in vars(kind) if not name.startswith("_")}

        assert public(AsyncClient) == public(Client)

    def test_gives_the_same(self, run: Callable[..., Any], client: Client) -> None:
        async def use(client: AsyncClient) -> Any:
            return (
                await client.search("x", 2, min_stars=2),
                await client.similar("a/one", 1, language="rust"),
                await client.get("a/one"),
                await client.enqueue(["a/one", "x/y"]),
                await client.status(),
            )

        *found, status = run(use)
        assert found == [
            client.search("x", 2, min_stars=2),
            client.similar("a/one", 1, language="rust"),
            client.get("a/one"),
            client.enqueue(["a/one", "x/y"]),
        ]
        assert status.embedded == 3

    def test_does_not_block_the_loop(self, run: Callable[..., Any], filled: World) -> None:
        """The provider answers only when the loop has gone on meanwhile."""
        asked, may_answer = threading.Event(), threading.Event()

        def wait(texts: Any) -> None:
            asked.set()
            assert may_answer.wait(60), "the loop stands still"

        filled.provider.during = wait

        async def use(client: AsyncClient) -> Any:
            search = asyncio.create_task(client.search("slow"))
            while not asked.is_set():
                await asyncio.sleep(0)
            may_answer.set()
            return await search

        assert len(run(use)) == 3

    def test_errors_come_through(self, run: Callable[..., Any]) -> None:
        with pytest.raises(ConfigError, match="the query is empty"):
            run(lambda client: client.search(""))
