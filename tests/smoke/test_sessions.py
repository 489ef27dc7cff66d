"""The sessions of docs/api.md and docs/mcp.md, as a reader types them, on the example data."""

from __future__ import annotations

import asyncio
import doctest
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client as McpClient
from mcp import StdioServerParameters

from embed_star import Client
from embed_star.cli.demonstration import await_embedded, import_examples
from embed_star.devstack.servers import ServerOptions
from embed_star.devstack.stack import LocalStack
from embed_star.services import Services
from tests.support.command_line import EMBED_STAR, embed_star
from tests.support.isolation import CHECKOUT
from tests.support.mcp_server import McpServer, http_client
from tests.support.servers import eventually, find_surreal

pytest.importorskip("tokenizers", reason="needs the local model: pip install 'embed-star[local]'")

BLOCK = re.compile(r"^```(python|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def directory(isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a reader: `.env` says all, and `embed-star` is on PATH."""
    find_surreal()
    stack = LocalStack(
        tmp_path_factory.mktemp("sessions") / "data",
        engine="server",
        servers=ServerOptions(memory=True),
        env={
            "EMBEDDING_PROVIDER": "local",
            "LOG_LEVEL": "WARNING",
        },
    )
    with stack, pytest.MonkeyPatch.context() as patch:
        stack.wait_ready()
        with Services(stack.settings()) as services:
            await_embedded(services, import_examples(services))
        here = Path.cwd()
        lines = [f"{name}={value}\n" for name, value in stack.environment.items()]
        (here / ".env").write_text("".join(lines))
        program = here / "bin" / "embed-star"
        program.parent.mkdir()
        # A client starts a server without the variables that say where this checkout is.
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(CHECKOUT))} "
            f'exec {shlex.join(EMBED_STAR)} "$@"\n'
        )
        program.chmod(0o755)
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        yield here


@pytest.fixture(autouse=True)
def quiet() -> None:
    """What the test before has enqueued is done."""

    def is_quiet() -> bool:
        with Client() as client:
            status = client.status()
        return sum(status.pending.values()) == status.in_flight == 0

    eventually(is_quiet, "nothing is pending", timeout_s=60.0)


def blocks(page: str, language: str) -> list[str]:
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    return [body for name, body in BLOCK.findall(text) if name == language]


@pytest.mark.parametrize("page", ["api.md", "mcp.md"])
def test_a_session_is_as_the_page_shows_it(page: str, capfd: pytest.CaptureFixture[str]) -> None:
    session = "\n".join(blocks(page, "python"))
    test = doctest.DocTestParser().get_doctest(session, {}, page, page, 0)
    assert len(test.examples) > 8
    failed: list[str] = []
    with capfd.disabled():
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failed.append)
    assert result.failed == 0, "".join(failed)


def test_what_a_client_finds_is_what_the_command_prints() -> None:
    query, k = "draw charts from a data frame", 4
    printed = embed_star("search", query, "-k", str(k), "--explain", "--json").assert_worked()
    similar = embed_star("similar", "rq/rq", "--json").assert_worked()
    known = embed_star("get", "rq/rq", "--json").assert_worked()
    with Client() as client:
        assert client.get("rq/rq").to_dict() == json.loads(known)
        found = [{**one.to_dict(), "why": None} for one in client.similar("rq/rq")]
        assert found == [{**one, "why": None} for one in json.loads(similar)]
        assert [found.to_dict() for found in client.search(query, k)] == json.loads(printed)
        status = client.status().to_dict()
    printed_status = json.loads(embed_star("status", "--json").assert_worked())
    live = {"workers", "pool"}  # asked by the command alone; of its own process
    assert {k: v for k, v in status.items() if k not in live} == {
        k: v for k, v in printed_status.items() if k not in live
    }


def test_the_configuration_starts_a_server(directory: Path) -> None:
    configuration = json.loads(blocks("mcp.md", "json")[0])["mcpServers"]["embed-star"]
    arguments = [one.replace("/home/you/stars", str(directory)) for one in configuration["args"]]
    server = StdioServerParameters(command=configuration["command"], args=arguments, cwd=Path("/"))

    async def tools() -> set[str]:
        async with McpClient(server) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    page = (CHECKOUT / "docs" / "mcp.md").read_text(encoding="utf-8")
    assert asyncio.run(tools()) == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_configuration_for_http_fits_the_server(directory: Path) -> None:
    configuration = json.loads(blocks("mcp.md", "json")[1])["mcpServers"]["embed-star"]
    server = McpServer({}, directory)

    async def ask(url: str) -> Any:
        header = configuration["headers"]["Authorization"].replace("THE-TOKEN", server.token)
        async with http_client(url, header.removeprefix("Bearer ")) as client:
            return await client.call_tool("status", {})

    with server.over_http() as url:
        assert re.sub(r":\d+", ":8765", url) == configuration["url"]
        assert asyncio.run(ask(url)).structured_content["embedded"] == 350
    assert "8765" in embed_star("mcp", "--help").assert_worked()
    assert sys.prefix not in server.log.read_text()
