"""A redis-server with a configuration of the test's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embed_star.devstack.redis_server import find_redis_server
from embed_star.devstack.servers import free_port
from tests.support.servers import PROMPT_S, eventually, is_listening


@contextmanager
def redis_with(
    *lines: str, port_directive: str = "port", folder: Path | None = None
) -> Iterator[int]:
    """Its port on the loopback interface; it ends with the block, and keeps nothing but what
    `lines` make it keep in `folder`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        fixed = ("bind 127.0.0.1", f"{port_directive} {port}", 'save ""', f"dir {folder}")
        process = subprocess.Popen(
            [find_redis_server(os.environ), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            assert process.stdin is not None
            with process.stdin as configuration:
                configuration.write("\n".join((*fixed, *lines, "")).encode())
            eventually(lambda: is_listening(port), "Redis listens")
            yield port
        finally:
            process.terminate()
            process.wait(PROMPT_S)
