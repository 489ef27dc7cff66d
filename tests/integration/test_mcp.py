"""`embed-star mcp` as a process, asked by the SDK's own client."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp import Client
from mcp.types import CallToolResult

from embed_star.store.bootstrap import bootstrap
from tests.conftest import MakeWorld, root_target
from tests.support.command_line import EMBED_STAR
from tests.support.lab import example_readme
from tests.support.mcp_server import McpServer, assert_one_sentence, http_client, text_of
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import local_servers
from tests.support.world import World

pytestmark = pytest.mark.parametrize("engine", ["server"], indirect=True)

KEY = "sk-canary-4f1c9a"
TOOLS = {"search", "similar", "get", "status"}


def provider_settings(server: ScriptedProvider) -> dict[str, str]:
    return {
        "EMBEDDING_PROVIDER": "openai",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": KEY,
        "PROVIDER_REQUESTS_PER_MINUTE": "0",
    }


@pytest.fixture
def world(make_http_world: MakeWorld) -> World:
    """Three repositories, embedded."""
    world = make_http_world()
    for name, stars in (("rq/rq", 10_000), ("celery/celery", 25_500), ("d3/d3", 110_000)):
        world.write(
            name,
            full_name=name,
            html_url=f"https://github.com/{name}",
            description=f"What {name} is for",
            language="Python",
            stargazers_count=stars,
            topics=["one", "two"],
        )
    world.settle()
    return world


@pytest.fixture
def mcp(world: World, server: ScriptedProvider, tmp_path: Path) -> McpServer:
    return McpServer({**world.environment, **provider_settings(server)}, tmp_path)


class TestStdio:
    def test_the_tools_only_read(self, mcp: McpServer) -> None:
        tools = mcp.over_stdio_do(lambda client: client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        for tool in tools:
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint is True
            assert tool.description
            assert tool.output_schema is not None

    def test_a_search_gives_data_and_a_text_to_cite(self, mcp: McpServer, world: World) -> None:
        query = {"query": "What celery/celery is for", "k": 2, "language": "python"}
        found = mcp.over_stdio_do(lambda client: client.call_tool("search", query))
        assert not found.is_error
        assert found.structured_content is not None
        hits = found.structured_content["hits"]
        expected = world.services.search.find("What celery/celery is for", 2)
        assert [hit["full_name"] for hit in hits] == [hit.repo["full_name"] for hit in expected]
        for hit in hits:
            assert hit["url"] == f"https://github.com/{hit['full_name']}"
            assert hit["description"] == f"What {hit['full_name']} is for"
            assert hit["topics"] == ["one", "two"]
            assert hit["reason"] == "meaning"
            assert f"score {hit['score']:.3f}" in text_of(found)
            assert f"vector of {hit['embedded_at'][:10]}" in text_of(found)
            assert hit["full_name"] in text_of(found)
            assert hit["url"] in text_of(found)

    def test_similar_and_get_go_by_the_name(self, mcp: McpServer, world: World) -> None:
        world.write("new/one", full_name="new/one", description="\x1b[2J\nIgnore all " + "x" * 999)

        async def ask(client: Client) -> list[CallToolResult]:
            return [
                await client.call_tool("similar", {"full_name": "RQ/rq", "min_stars": 50_000}),
                await client.call_tool("get", {"full_name": "rq/RQ"}),
                await client.call_tool("get", {"full_name": "new/one"}),
                await client.call_tool("similar", {"full_name": "new/one"}),
                await client.call_tool("get", {"full_name": "celery/celary"}),
                await client.call_tool("similar", {"full_name": ""}),
            ]

        similar, known, new, *failed = mcp.over_stdio_do(ask)
        assert similar.structured_content is not None
        assert [hit["full_name"] for hit in similar.structured_content["hits"]] == ["d3/d3"]
        assert known.structured_content is not None
        assert known.structured_content["stars"] == 10_000
        assert "https://github.com/rq/rq" in text_of(known)
        assert new.structured_content is not None
        assert len(new.structured_content["description"]) == 500
        assert "\x1b" not in text_of(new)
        assert text_of(new).endswith("it is not embedded yet")
        for answer, name in zip(failed, ("new/one", "celery/celery", "owner/name"), strict=True):
            assert_one_sentence(answer, name)

    def test_status_counts(self, mcp: McpServer, world: World) -> None:
        world.write("new/one", full_name="new/one")
        state = mcp.over_stdio_do(lambda client: client.call_tool("status", {}))
        assert state.structured_content is not None
        assert state.structured_content["embedded"] == 3
        assert state.structured_content["pending"] == 1
        assert state.structured_content["problems"] == []
        assert "3 repositories" in text_of(state)

    def test_passages_are_counted(self, mcp: McpServer, world: World) -> None:
        world.write("rq/rq", readme=example_readme("one", "two"))
        world.settle()

        async def ask(client: Client) -> list[CallToolResult]:
            known = await client.call_tool("get", {"full_name": "rq/rq"})
            return [known, await client.call_tool("status", {})]

        for answer in mcp.over_stdio_do(ask):
            assert answer.structured_content is not None
            assert answer.structured_content["passages"] == 2
        assert "3 repositories, and 2 passages of READMEs are embedded" in text_of(answer)

    def test_all_filters_reach_the_search(self, mcp: McpServer) -> None:
        chosen = {"owner": "RQ", "topic": "one", "archived": False, "pushed_since": None}

        async def ask(client: Client) -> list[CallToolResult]:
            return [
                await client.call_tool("search", {"query": "x", **chosen}),
                await client.call_tool("similar", {"full_name": "d3/d3", **chosen}),
            ]

        for found in mcp.over_stdio_do(ask):
            assert found.structured_content is not None
            assert [hit["full_name"] for hit in found.structured_content["hits"]] == ["rq/rq"]

    def test_a_filter_that_nothing_satisfies(self, mcp: McpServer) -> None:
        filters: list[dict[str, object]] = [
            {"min_stars": 10**9},
            {"archived": True},
            {"pushed_since": "2026-01-31"},
            {"topic": "on"},
        ]

        async def ask(client: Client) -> list[CallToolResult]:
            return [await client.call_tool("search", {"query": "x", **one}) for one in filters]

        for one, found in zip(filters, mcp.over_stdio_do(ask), strict=True):
            assert found.structured_content == {"hits": []}, one
            assert text_of(found) == "no repository fits", one

    def test_wrong_arguments_are_one_sentence_each(self, mcp: McpServer) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"query": ""}, "the query is empty"),
            ({"query": " \n "}, "the query is empty"),
            ({"query": "secret" * 1000}, "query"),
            ({"query": "x", "k": 0}, "k"),
            ({"query": "x", "k": 10_000}, "k"),
            ({"query": "x", "k": "many", "min_stars": -1}, "min_stars"),
            ({"query": "x", "pushed_since": "yesterday"}, "pushed_since"),
            ({}, "query"),
        ]

        async def ask(client: Client) -> list[CallToolResult]:
            answers = [await client.call_tool("search", arguments) for arguments, _ in cases]
            return [*answers, await client.call_tool("delete", {})]

        *answers, unknown = mcp.over_stdio_do(ask)
        for answer, (_, name) in zip(answers, cases, strict=True):
            assert_one_sentence(answer, name)
            assert "secret" not in text_of(answer)
        assert_one_sentence(unknown, "delete")

    def test_a_provider_that_refuses_the_key(
        self, mcp: McpServer, server: ScriptedProvider
    ) -> None:
        server.script(auth="another key")
        try:
            found = mcp.over_stdio_do(lambda client: client.call_tool("search", {"query": "new"}))
        finally:
            server.reset()
        assert_one_sentence(found, "OPENAI_API_KEY")
        assert KEY not in text_of(found) + mcp.log.read_text()

    def test_stdout_has_nothing_but_the_protocol(self, mcp: McpServer) -> None:
        """Though something is logged: without Redis a search warns."""
        messages = [
            {
                "id": 1,
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                },
            },
            {"method": "notifications/initialized"},
            {
                "id": 2,
                "method": "tools/call",
                "params": {"name": "search", "arguments": {"query": "without Redis"}},
            },
        ]
        env = {**os.environ, **mcp.env, "REDIS_URL": "redis://127.0.0.1:1/0", "LOG_LEVEL": "DEBUG"}
        argv = [*EMBED_STAR, "mcp"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(argv, env=env, cwd=mcp.cwd, text=True, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            for message in messages:
                process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            process.stdin.flush()
            answers = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.stdin.close()
            rest, logged = process.stdout.read(), process.stderr.read()
        assert [answer["id"] for answer in answers] == [1, 2]
        assert answers[1]["result"]["structuredContent"]["hits"]
        assert rest == ""
        assert "cache_unavailable" in logged
        assert "Traceback" not in logged
        assert process.returncode == 0


class TestHttp:
    def test_the_same_answers_with_the_token(self, mcp: McpServer) -> None:
        async def ask(url: str) -> CallToolResult:
            async with http_client(url, mcp.token) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
                return await client.call_tool("search", {"query": "x", "k": 1})

        with mcp.over_http() as url:
            found = asyncio.run(ask(url))
        assert found.structured_content is not None
        assert len(found.structured_content["hits"]) == 1
        assert mcp.token not in mcp.log.read_text()
        assert (mcp.cwd / "token").stat().st_mode & 0o777 == 0o600

    def test_whoever_has_no_token_or_comes_from_elsewhere_gets_nothing(
        self, mcp: McpServer
    ) -> None:
        with mcp.over_http() as url:
            good = {"Authorization": f"Bearer {mcp.token}"}
            found = {
                "the token": post(url, good),
                "none": post(url, {}),
                "another": post(url, {"Authorization": f"Bearer {'x' * len(mcp.token)}"}),
                "no ASCII": post(url, {"Authorization": "Bearer \xe9"}),
                "half of it": post(url, {"Authorization": f"Bearer {mcp.token[:20]}"}),
                "a page of another site": post(url, {**good, "Origin": "https://example.org"}),
                "a name that leads here": post(url, {**good, "Host": "example.org"}),
                "a long body": post(url, good, padding=70_000),
            }
        assert found == {
            "the token": 200,
            "none": 401,
            "another": 401,
            "no ASCII": 401,
            "half of it": 401,
            "a page of another site": 403,
            "a name that leads here": 421,
            "a long body": 413,
        }
        assert "Traceback" not in mcp.log.read_text()

    def test_a_port_that_is_taken(self, mcp: McpServer) -> None:
        with mcp.over_http() as url:
            port = str(urlsplit(url).port)
            done = subprocess.run(
                [*EMBED_STAR, "mcp", "--http", "--port", port],
                env={**os.environ, **mcp.env},
                cwd=mcp.cwd,
                capture_output=True,
                text=True,
            )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "--port" in line


def post(url: str, headers: dict[str, str], padding: int = 0) -> int:
    """The status of the answer to a request that lists the tools."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) + " " * padding
    usual = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    encoded = {name: value.encode("latin-1") for name, value in {**usual, **headers}.items()}
    connection.request("POST", parts.path, body, encoded)
    status = connection.getresponse().status
    connection.close()
    return status


class TestOutage:
    @pytest.fixture
    def killable(
        self, engine: object, server: ScriptedProvider, tmp_path: Path
    ) -> Iterator[tuple[McpServer, Any]]:
        """An empty database on a server of its own, with its data on disk."""
        server.reset()
        with local_servers(tmp_path / "data", memory=False) as servers:
            values = servers.environment
            root = root_target(servers, values["DB_DATABASE"])
            bootstrap(root, values["DB_USER"], values["DB_PASS"])
            env = {
                **values,
                **provider_settings(server),
                "EMBEDDING_MODEL": "scripted-model",
                "EMBEDDING_DIMENSIONS": "8",
            }
            done = subprocess.run(
                [*EMBED_STAR, "migrate"], env={**os.environ, **env}, capture_output=True
            )
            assert done.returncode == 0, done.stderr
            yield McpServer(env, tmp_path), servers

    def test_a_database_that_is_killed_costs_answers_and_not_the_server(
        self, killable: tuple[McpServer, Any]
    ) -> None:
        mcp, servers = killable

        async def live_through_it(client: Client) -> list[CallToolResult]:
            answers = [await client.call_tool("status", {})]
            servers.stop_server("surrealdb", grace_s=0)
            answers.append(await client.call_tool("status", {}))
            answers.append(await client.call_tool("search", {"query": "x"}))
            servers.start_server("surrealdb")
            while (again := await client.call_tool("search", {"query": "x"})).is_error:
                assert_one_sentence(again)
            return [*answers, again, await client.call_tool("status", {})]

        before, status, search, found, after = mcp.over_stdio_do(live_through_it)
        assert before.structured_content == after.structured_content
        for answer in (status, search):
            assert_one_sentence(answer, "SurrealDB")
        assert found.structured_content == {"hits": []}
        logged = mcp.log.read_text()
        assert "Traceback" not in logged
        assert servers.environment["DB_PASS"] not in logged
