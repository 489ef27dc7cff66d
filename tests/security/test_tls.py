"""`rediss://` and `wss://` with a private authority, and nobody in between."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embed_star.devstack.servers import free_port
from embed_star.services import Services
from embed_star.settings import load_settings
from tests.support.certificates import Certificates, make_certificates
from tests.support.command_line import CELERY, EMBED_STAR, run
from tests.support.isolation import CHECKOUT
from tests.support.redis_with import redis_with
from tests.support.servers import PROMPT_S, eventually, find_surreal, is_listening

PASSWORD = secrets.token_hex(16)
EXAMPLES = CHECKOUT / "examples" / "repos.jsonl"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def redis_port(certificates: Certificates) -> Iterator[int]:
    lines = (
        "port 0",
        "tls-auth-clients no",
        f"tls-cert-file {certificates.certificate}",
        f"tls-key-file {certificates.key}",
        f"tls-ca-cert-file {certificates.authority}",
        f"requirepass {PASSWORD}",
    )
    with redis_with(*lines, port_directive="tls-port") as port:
        yield port


@pytest.fixture(scope="module")
def surreal_port(certificates: Certificates) -> Iterator[int]:
    port = free_port()
    argv = [find_surreal(), "start", "--no-banner", "--bind", f"127.0.0.1:{port}", "memory"]
    env = {
        **os.environ,
        "SURREAL_USER": "root",
        "SURREAL_PASS": PASSWORD,
        "SURREAL_WEB_CRT": str(certificates.certificate),
        "SURREAL_WEB_KEY": str(certificates.key),
        "SURREAL_LOG": "warn",
    }
    process = subprocess.Popen(argv, env=env)
    try:
        eventually(lambda: is_listening(port), "SurrealDB listens")
        yield port
    finally:
        process.terminate()
        process.wait(PROMPT_S)


@pytest.fixture(scope="module")
def env(redis_port: int, surreal_port: int, certificates: Certificates) -> dict[str, str]:
    return {
        "DB_URL": f"wss://127.0.0.1:{surreal_port}",
        "DB_PASS": secrets.token_hex(16),
        "ROOT_DB_PASS": PASSWORD,
        "REDIS_URL": f"rediss://:{PASSWORD}@127.0.0.1:{redis_port}/0",
        "SSL_CERT_FILE": str(certificates.authority),
        "LOG_FORMAT": "json",
    }


@pytest.mark.alone  # a worker, a producer and a model at once, bounded by a minute
def test_the_whole_way(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*EMBED_STAR, "migrate", "--bootstrap", env=env).assert_worked()
    monkeypatch.setenv("SSL_CERT_FILE", env["SSL_CERT_FILE"])
    values = {name.lower(): value for name, value in env.items()}
    settings = load_settings(_env_file=None, **values)
    with Services(settings) as services, ExitStack() as stack:
        for number, argv in enumerate(((*CELERY, "worker"), (*EMBED_STAR, "watch"))):
            log = stack.enter_context((tmp_path / str(number)).open("wb"))
            process = subprocess.Popen(
                argv, env={**os.environ, **env, "MONITORING_PORT": "0"}, stderr=log, stdout=log
            )
            stack.callback(process.wait, PROMPT_S)
            stack.callback(process.terminate)
        run(*EMBED_STAR, "import", str(EXAMPLES), env=env)
        vectors = services.store.vectors
        eventually(lambda: vectors.count() > 300, "rows are embedded", timeout_s=60)
        assert run(*EMBED_STAR, "doctor", env=env).code == 0


@pytest.mark.parametrize(
    ("host", "authority"), [("127.0.0.1", False), ("localhost", True)], ids=["unknown", "misnamed"]
)
def test_a_server_that_cannot_be_trusted(host: str, authority: bool, env: dict[str, str]) -> None:
    """Neither one that nobody vouches for, nor one that is somebody else."""
    changed = {
        **{name: value.replace("127.0.0.1", host) for name, value in env.items()},
        "SSL_CERT_FILE": env["SSL_CERT_FILE"] if authority else "",
    }
    done = run(*EMBED_STAR, "doctor", env=changed)
    assert done.code == 1
    lines = {line.split()[1]: line for line in done.out.splitlines()}
    for name in ("database", "redis"):
        assert lines[name].startswith("FAIL"), done.out
        assert "certificate" in lines[name].lower(), done.out
    asked = run(*CELERY, "inspect", "ping", env=changed)
    assert asked.code != 0
    assert "certificate" in (asked.out + asked.err).lower()
    for answer in (done, asked):
        answer.assert_keeps(PASSWORD, env["DB_PASS"])
