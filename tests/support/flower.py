"""A Flower of its own, behind a password, for a `with` block."""

from __future__ import annotations

import base64
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from embed_star.devstack.processes import Child
from embed_star.devstack.servers import free_port
from tests.support.command_line import CELERY
from tests.support.fleet import STOP_S, Tenant
from tests.support.servers import eventually, is_listening

_ANSWER_S = 20.0


class Site:
    """Where Flower is, and its answers to whoever knows the password."""

    def __init__(self, url: str, login: str, child: Child) -> None:
        self.url = url
        self.child = child
        self._login = login

    def get(self, path: str) -> bytes:
        """The answer; of an error, its body."""
        token = base64.b64encode(self._login.encode()).decode()
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Basic {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()


@contextmanager
def flower(tenant: Tenant, *options: str, **env: str) -> Iterator[Site]:
    """`celery flower` for a tenant; `env` as keyword arguments in capitals."""
    port, login = free_port(), f"someone:{secrets.token_hex(8)}"
    argv = (*CELERY, "flower", "--address=127.0.0.1", f"--port={port}", *options)
    child = tenant.start(f"flower{port}", *argv, FLOWER_BASIC_AUTH=login, **env)
    try:
        eventually(lambda: is_listening(port) or child.ended.is_set(), "Flower listens", _ANSWER_S)
        assert not child.ended.is_set(), child.output()
        yield Site(f"http://127.0.0.1:{port}", login, child)
    finally:
        child.stop(STOP_S)
