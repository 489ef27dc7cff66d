"""`embed-star mcp` as a process, and the SDK's own client on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from tests.support.command_line import EMBED_STAR

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class McpServer:
    """How it is started: settings, its working directory, and the file of its stderr."""

    env: Mapping[str, str]
    cwd: Path

    @property
    def log(self) -> Path:
        return self.cwd / "stderr"

    @asynccontextmanager
    async def over_stdio(self) -> AsyncIterator[Client]:
        """A client that starts the server and speaks with it over pipes."""
        program, *arguments = EMBED_STAR
        parameters = StdioServerParameters(
            command=program,
            args=[*arguments, "mcp"],
            env={**os.environ, **self.env},
            cwd=self.cwd,
        )
        with self.log.open("a") as log:
            async with Client(stdio_client(parameters, errlog=log)) as client:
                yield client

    def over_stdio_do(self, steps: Callable[[Client], Awaitable[T]]) -> T:
        """What `steps` returns for such a client."""

        async def run() -> T:
            async with self.over_stdio() as client:
                return await steps(client)

        return asyncio.run(run())

    @contextmanager
    def over_http(self) -> Iterator[str]:
        """The URL of the server on a free port, until the end of the block."""
        argv = [*EMBED_STAR, "mcp", "--http", "--port", "0", "--token-file", "token"]
        with subprocess.Popen(
            argv,
            env={**os.environ, **self.env, "PYTHONUNBUFFERED": "1"},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            try:
                assert first.startswith("http://127.0.0.1:"), first + process.stderr.read()
                yield first.partition(",")[0]
            finally:
                process.terminate()
                self.log.write_text(first + process.stderr.read())

    @property
    def token(self) -> str:
        return (self.cwd / "token").read_text().strip()


@asynccontextmanager
async def http_client(url: str, token: str) -> AsyncIterator[Client]:
    """A client of a server over HTTP, with this bearer token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


def text_of(result: CallToolResult) -> str:
    """The text of a tool's answer, which is one block."""
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def assert_one_sentence(result: CallToolResult, *names: str) -> None:
    """The tool failed, and said why in one line that contains each of `names`."""
    text = text_of(result)
    assert result.is_error, text
    assert len(text.splitlines()) == 1, text
    for name in names:
        assert name in text
    for foreign in ("Traceback", "Error executing", "pydantic", sys.prefix):
        assert foreign not in text
