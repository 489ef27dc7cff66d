"""What docker-compose.yml starts, started: the same commands, settings, secrets and files, as
processes of this machine on real servers."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import redis

from embed_star.devstack.processes import Child
from embed_star.settings import Settings, load_settings
from tests.deploy.compose import LocalProject, settings_of
from tests.deploy.tools import CHECKOUT
from tests.support.isolation import isolated
from tests.support.lab import Lab
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually, find_surreal

ROWS = 40
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    """Everything but the monitoring, started in the order that `depends_on` gives."""
    find_surreal()
    folder = tmp_path_factory.mktemp("compose")
    with isolated(folder):
        stack = LocalProject(folder)
        try:
            for server in ("surrealdb", "redis", "cache"):
                stack.await_healthy(stack.start(server))
            stack.run("migrate").assert_worked()
            for process in ("producer", "worker", "beat", "flower"):
                stack.await_healthy(stack.start(process))
            yield stack
        finally:
            stack.close()


def settings(stack: LocalProject, service: str) -> Settings:
    """The settings that the service has."""
    values = settings_of(stack.environment(service))
    return load_settings(_env_file=None, **values)


@pytest.fixture(scope="module")
def lab(stack: LocalProject) -> Iterator[Lab]:
    """A user of the database; nobody asks the provider."""
    with Lab(settings(stack, "worker"), ScriptedProvider()) as lab:
        yield lab


@pytest.mark.parametrize("service", ["producer", "worker", "beat"])
def test_probes_and_metrics_answer_where_they_are_looked_for(
    stack: LocalProject, service: str
) -> None:
    """The paths of health checks, of Kubernetes' probes and of Prometheus."""
    for path in ("/livez", "/readyz", "/metrics"):
        url = f"http://127.0.0.1:{stack.ports[service]}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
            body = answer.read().decode()
    assert "embed_star_build_info{" in body


def test_rows_are_embedded(lab: Lab) -> None:
    keys = lab.insert(ROWS)
    eventually(lambda: lab.embedded(keys) == ROWS, "all rows have a vector", 60.0)
    lab.await_quiet()


def readme_commands() -> list[tuple[str, list[str]]]:
    """Service and command of each `docker compose exec` that README.md shows."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^\$ docker compose exec (?:-T )?(\w+) (embed-star .*)$", text, re.MULTILINE
    )
    return [(service, shlex.split(command)) for service, command in lines]


def test_the_readmes_commands_work(stack: LocalProject, lab: Lab) -> None:
    """In their order: rows go in, and are found by meaning."""
    commands = readme_commands()
    assert [words[1] for _, words in commands] == ["import", "status", "search"]
    for service, (_, *words) in commands:
        shown = ""
        if "<" in words:
            words, (_, file) = words[: words.index("<")], words[words.index("<") :]
            shown = (CHECKOUT / file).read_text()
        argv = [sys.executable, "-m", "embed_star.cli.main", *words]
        done = stack.run(service, *argv, stdin=shown)
        assert done.code == 0, done.err
        lab.await_quiet()
    assert "celery/celery" in done.out


def test_vectors_are_cached_in_the_other_redis(stack: LocalProject, lab: Lab) -> None:
    made = settings(stack, "worker")
    assert made.redis_url != made.cache_url
    with redis.Redis.from_url(made.cache_url) as cache:
        key = next(_vector_keys(lab))
        assert cache.get(key) is not None
    with pytest.raises(redis.ResponseError), redis.Redis.from_url(made.cache_url) as cache:
        cache.keys()


def _vector_keys(lab: Lab) -> Iterator[str]:
    (rows,) = lab.query("SELECT * FROM type::table($t)", t=lab.services.space.table)
    for row in rows:
        yield lab.services.cache.name(row["text_hash"], lab.services.cache.source)


def test_the_doctor_finds_nothing(stack: LocalProject) -> None:
    report = stack.run("worker", sys.executable, "-m", "embed_star.cli.main", "doctor", "--json")
    assert report.code == 0, report.out + report.err
    assert all(check["ok"] for check in json.loads(report.out).values())


def test_the_servers_keep_to_their_files(stack: LocalProject) -> None:
    """One keeps all and writes it down, the other forgets what is used least."""
    for name, policy in (("redis", "noeviction"), ("cache", "allkeys-lru")):
        user = {"redis": "embed_star", "cache": "embed_star_cache"}[name]
        with (
            redis.Redis(port=stack.ports[name]) as nobody,
            pytest.raises(redis.AuthenticationError),
        ):
            nobody.ping()
        text = (stack.folder / "project/deploy/redis").joinpath(
            "broker.conf" if name == "redis" else "cache.conf"
        )
        assert f"maxmemory-policy {policy}" in text.read_text()
        password = stack.secrets(name) / ("redis_password" if name == "redis" else "cache_password")
        with redis.Redis(
            port=stack.ports[name], username=user, password=password.read_text().strip()
        ) as somebody:
            assert somebody.ping()
            with pytest.raises(redis.ResponseError, match="permission"):
                somebody.flushall()
    assert list(stack.data("redis", "/data").rglob("*.aof")), "what is queued is written down"
    assert not list(stack.data("cache", "/data").rglob("*"))


class TestFlower:
    @pytest.fixture
    def address(self, stack: LocalProject) -> str:
        return f"http://127.0.0.1:{stack.flower_port}"

    def get(self, stack: LocalProject, url: str, *, data: bytes | None = None) -> tuple[int, str]:
        password = (stack.secrets("flower") / "flower_password").read_text().strip()
        login = base64.b64encode(f"embed_star:{password}".encode()).decode()
        request = urllib.request.Request(url, data, {"Authorization": f"Basic {login}"})
        return self.answer(request)

    def answer(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @pytest.mark.parametrize(
        "path", ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"]
    )
    def test_asks_for_its_password(self, address: str, path: str) -> None:
        request = urllib.request.Request(address + path)
        assert self.answer(request)[0] == 401
        request.add_header("Authorization", "Basic " + base64.b64encode(b"embed_star:").decode())
        assert self.answer(request)[0] == 401

    def test_shows_workers_and_tasks(self, stack: LocalProject, lab: Lab, address: str) -> None:
        assert self.get(stack, f"{address}/workers")[0] == 200

        def sees_tasks() -> bool:
            lab.edit(0, description=f"edited {lab.services.space.name}")
            return "embed_star.embed_batch" in self.get(stack, f"{address}/api/tasks")[1]

        eventually(sees_tasks, "Flower has seen a task", 60.0)

    @pytest.mark.parametrize(
        "path",
        [
            "/api/worker/shutdown/celery@x",
            "/api/worker/pool/grow/celery@x",
            "/api/worker/queue/cancel-consumer/celery@x",
            "/api/task/revoke/x",
            "/api/task/rate-limit/embed_star.embed_batch",
            "/api/task/send-task/embed_star.reconcile",
            "/api/task/apply/embed_star.reconcile",
        ],
    )
    def test_changes_nothing(self, stack: LocalProject, address: str, path: str) -> None:
        status, _ = self.get(stack, address + path, data=b"{}")
        assert status == 403

    def test_does_not_start_without_a_password(self, stack: LocalProject) -> None:
        empty = stack.folder / "empty"
        empty.mkdir()
        broker = (stack.secrets("flower") / "redis_url").read_text().strip()
        refused = stack.run("flower", SECRETS_DIR=str(empty), REDIS_URL=broker)
        assert refused.code != 0
        assert refused.err.strip().splitlines()[-1].startswith("flower: the file flower_password")
        assert "Traceback" not in refused.err


@pytest.mark.parametrize("service", ["migrate", "producer", "worker", "beat", "flower"])
def test_a_wrong_setting_stops_a_container_with_one_line(stack: LocalProject, service: str) -> None:
    stack.run(service, BATCH_SIZE="many").assert_one_sentence("BATCH_SIZE")


def test_a_container_without_its_secrets_says_so(stack: LocalProject) -> None:
    empty = stack.folder / "none"
    empty.mkdir()
    stack.run("worker", SECRETS_DIR=str(empty)).assert_one_sentence("DB_PASS")


def test_they_stop_when_told_to(stack: LocalProject) -> None:
    """SIGTERM, as `docker compose stop` sends it; last, since nothing is left after it."""
    ended: list[tuple[str, int | None]] = []
    for child in stack.children("flower", "beat", "producer", "worker"):
        assert isinstance(child, Child)
        child.stop(60.0)
        ended.append((child.name, child.returncode))
    assert ended == [("flower", 0), ("beat", 0), ("producer", 0), ("worker", 0)]
    assert (stack.data("flower", "/data") / "flower").exists() or list(
        stack.data("flower", "/data").glob("flower*")
    ), "Flower has written down what it saw"
