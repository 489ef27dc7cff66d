"""Images are pinned by what their registry says, or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.deploy.tools import CHECKOUT

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
OLD = f"sha256:{'0' * 64}"

DOCKERFILE = f"""\
FROM example.org/library/python:3.13-slim AS builder
FROM example.org/base:nonroot@{OLD}
FROM builder AS other
"""
COMPOSE = """\
services:
  redis:
    image: example.org:5000/library/redis:8.2
  ours:
    image: embed-star:latest
"""
KUBERNETES = """\
      containers:
        - image: example.org/base:nonroot
"""


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a token, as the public ones do."""

    announced = DIGEST
    known = ("library/python:3.13-slim", "base:nonroot", "library/redis:8.2")

    def do_GET(self) -> None:
        address = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        if self.path.startswith("/token?"):
            assert "scope=pull" in self.path
            return self._answer(200, b'{"token": "secret"}')
        if self.headers.get("Authorization") != "Bearer secret":
            challenge = f'Bearer realm="{address}/token",service="reg",scope="pull"'
            return self._answer(401, b"", ("WWW-Authenticate", challenge))
        name, _, tag = self.path.removeprefix("/v2/").partition("/manifests/")
        if f"{name}:{tag}" not in self.known:
            return self._answer(404, b"")
        assert "image.index" in self.headers["Accept"]
        return self._answer(200, MANIFEST, ("Docker-Content-Digest", self.announced))

    def _answer(self, code: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(code)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[Registry]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "k8s" / "base").mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / "k8s" / "base" / "worker.yaml").write_text(KUBERNETES)
    return tmp_path


def pin(checkout: Path, url: str) -> subprocess.CompletedProcess[str]:
    script = CHECKOUT / "deploy" / "pin_images.py"
    registries = [f"--registry=example.org={url}", f"--registry=example.org:5000={url}"]
    argv = [sys.executable, str(script), "--checkout", str(checkout), *registries]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def contents(checkout: Path) -> str:
    return "".join(path.read_text() for path in sorted(checkout.rglob("*")) if path.is_file())


def test_every_tag_gets_its_digest_and_an_old_one_is_replaced(checkout: Path) -> None:
    with serving(Registry) as url:
        done = pin(checkout, url)
        assert (done.returncode, done.stderr) == (0, "")
        once = contents(checkout)
        pin(checkout, url)
    assert contents(checkout) == once, "twice changes nothing"
    assert once.count(f"@{DIGEST}") == 4
    assert f"FROM example.org/library/python:3.13-slim@{DIGEST} AS builder\n" in once
    assert OLD not in once
    assert "image: embed-star:latest\n" in once
    assert "FROM builder AS other\n" in once


class Forgetful(Registry):
    known = ("library/python:3.13-slim",)


class Lying(Registry):
    announced = OLD


@pytest.mark.parametrize(
    ("registry", "reason"),
    [(Forgetful, "answers 404"), (Lying, "announces another digest than it sends")],
)
def test_one_without_an_answer_changes_nothing(
    checkout: Path, registry: type[Registry], reason: str
) -> None:
    before = contents(checkout)
    with serving(registry) as url:
        done = pin(checkout, url)
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(checkout) == before


def test_no_registry_to_be_reached_is_one_sentence(checkout: Path) -> None:
    with serving(Registry) as url:
        pass
    done = pin(checkout, url)
    assert done.returncode == 1
    assert "cannot be asked" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert OLD in contents(checkout)


def test_the_projects_own_images_are_named_with_host_and_tag() -> None:
    """What the script does not see, it does not pin."""
    sys.path.insert(0, str(CHECKOUT / "deploy"))
    try:
        import pin_images
    finally:
        sys.path.pop(0)
    for path in pin_images.files(CHECKOUT):
        seen = {str(image) for image in pin_images.images(path.read_text(encoding="utf-8"))}
        assert not any(image.endswith(":latest") for image in seen), path
        if path.name == "Dockerfile":
            assert len(seen) == 2
