"""README's section on Compose, typed word by word on a real engine, and what may happen to it.

The tests are one story, in this order: each begins where the one before ended.

More than 300 lines: a second module would have to tell the first one's story again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.compose import APPLICATION, Stack, get, sizes
from tests.engines.docker import Docker, timed
from tests.engines.project import Project, blocks_of, commands_of
from tests.support.lab import Lab
from tests.support.runbook import Step
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.whole_stack import DIMENSIONS, PROMPT_RECOVERY

BRIDGE = "172.17.0.1"
"""The engine's own bridge, which containers of all networks but `inside` can reach."""
EXAMPLES = 350
SETTLED_S = 300.0
IN_FLIGHT = 3 * 20
"""Rows that a worker may have with the provider: PARALLEL_WORKERS times BATCH_SIZE."""
BUSY_ROWS = 4 * IN_FLIGHT
KEY = "sk-made-up"

pytestmark = pytest.mark.timeout(1800)

FIRST, OPENAI, CHANGE, MONITORING, UPGRADE = blocks_of("README.md", "Run it with Docker Compose")


@pytest.fixture(scope="module")
def stack(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A clone, with nothing started yet, and the answer that no registry is needed."""
    project = Project(tmp_path_factory.mktemp("compose"), docker.environment)
    yield Stack(docker, project)
    print(sizes(project.folder, docker))  # noqa: T201


@pytest.fixture(scope="module")
def provider(docker: Docker) -> Iterator[ScriptedProvider]:
    options = ("--host", BRIDGE, "--dimensions", str(DIMENSIONS))
    with ScriptedProvider(*options) as provider:
        yield provider


@pytest.fixture
def lab(stack: Stack, provider: ScriptedProvider) -> Iterator[Lab]:
    with stack.lab(provider) as lab:
        yield lab


def follow(stack: Stack, steps: list[Step], stdin: str = "") -> str:
    """Type a block; what its commands printed."""
    said = ""
    for step in steps:
        with timed(f"$ {step.command}"):
            said += stack.project.type(step.command, stdin)
    return said


def keep_busy(lab: Lab, provider: ScriptedProvider) -> None:
    """Let the worker have calls under way, each of a second, and rows that wait."""
    provider.script(latency_ms=1000)
    lab.insert(BUSY_ROWS)
    lab.await_asked()


def await_kept(stack: Stack, provider: ScriptedProvider, paid_again: int) -> None:
    """By a connection of its own: an earlier one may have ended with its server."""
    with stack.lab(provider) as lab:
        lab.await_quiet(SETTLED_S)
        lab.report().assert_kept(paid_again=paid_again, hits=1 if paid_again else 0)


def test_the_first_commands(stack: Stack) -> None:
    """From a clone that nobody else may read to a search."""
    stack.project.configure()
    *before, status, search = FIRST
    follow(stack, before)
    eventually(lambda: stack.status()["embedded"] == EXAMPLES, "all rows have a vector", SETTLED_S)
    assert str(EXAMPLES) in follow(stack, [status])
    assert "celery/celery" in follow(stack, [search])
    stack.await_healthy()


def test_one_build_leaves_one_image(stack: Stack) -> None:
    before = stack.docker("images", "--quiet", "embed-star").split()
    assert len(before) == 1
    assert stack.leftovers() == {"volumes": [], "images": []}


def test_another_provider_is_another_model(stack: Stack, provider: ScriptedProvider) -> None:
    """And every row is asked of it once."""
    stack.project.configure(
        OPENAI_BASE_URL=provider.openai_url,
        EMBEDDING_MODEL="scripted-model",
        EMBEDDING_DIMENSIONS=str(DIMENSIONS),
        **PROMPT_RECOVERY,
    )
    follow(stack, OPENAI, stdin=f"{KEY}\n")
    assert stack.secret("openai_api_key") == KEY
    with stack.lab(provider) as lab:
        eventually(
            lambda: stack.status()["embedded"] == EXAMPLES, "the new space is full", SETTLED_S
        )
        lab.await_quiet(SETTLED_S)
        lab.report().assert_kept()


def test_a_wrong_setting_takes_nothing_away(stack: Stack) -> None:
    doctor, up = CHANGE
    stack.await_healthy()
    before = stack.ids()
    stack.project.configure(BATCH_SIZE="many")
    refused = stack.project.ask(doctor.command)
    assert refused.code != 0
    assert "BATCH_SIZE" in (refused.out + refused.err).strip().splitlines()[-1]
    assert "Traceback" not in refused.out + refused.err
    assert stack.ids() == before
    stack.project.configure(BATCH_SIZE="20", PARALLEL_WORKERS="3")
    follow(stack, [doctor, up])
    stack.await_healthy()
    assert "20" in stack.project.type(
        "docker compose exec -T worker python -c 'import os; print(os.environ[\"BATCH_SIZE\"])'"
    )


def test_more_workers_leave_the_others_alone(stack: Stack) -> None:
    before = stack.ids()
    stack.project.configure(WORKERS="2")
    stack.project.type("docker compose up -d")
    stack.await_healthy()
    assert before < stack.ids()
    assert len(stack.ids("worker")) == 2
    stack.project.configure(WORKERS=None)
    stack.project.type("docker compose up -d")
    assert stack.ids() <= before | stack.ids("worker")
    assert len(stack.ids("worker")) == 1


def test_flower_asks_for_its_password(stack: Stack) -> None:
    stack.await_healthy()
    url = "http://127.0.0.1:5555"
    assert get(f"{url}/workers")[0] == 401
    assert get(f"{url}/api/workers", "embed_star", "wrong")[0] == 401
    assert get(f"{url}/workers", "embed_star", stack.secret("flower_password"))[0] == 200
    # The two pages that docs/security.md names.
    assert get(f"{url}/healthcheck") == (200, "OK")
    assert get(f"{url}/metrics")[0] == 200


class TestMonitoring:
    def test_every_target_is_up(self, stack: Stack) -> None:
        follow(stack, MONITORING)
        stack.await_healthy()

        def targets() -> dict[str, str]:
            told = json.loads(get("http://127.0.0.1:9090/api/v1/targets")[1])["data"]
            return {one["labels"]["job"]: one["health"] for one in told["activeTargets"]}

        wanted = {"embed-star-producer", "embed-star-worker", "embed-star-beat", "celery-exporter"}
        eventually(
            lambda: targets() == dict.fromkeys(wanted, "up"), "all targets are up", SETTLED_S
        )

    def test_every_rule_is_understood_and_no_alert_fires(self, stack: Stack) -> None:
        def rules() -> list[dict[str, str]]:
            told = json.loads(get("http://127.0.0.1:9090/api/v1/rules")[1])["data"]["groups"]
            return [rule for group in told for rule in group["rules"]]

        eventually(
            lambda: {rule["health"] for rule in rules()} == {"ok"}, "all rules are ok", SETTLED_S
        )
        assert [one["name"] for one in rules() if one.get("state") == "firing"] == []

    def test_the_exporter_sees_tasks(self, stack: Stack, lab: Lab) -> None:
        """With the rights of the observer, and the calls of its own version of kombu."""

        def counted() -> bool:
            lab.edit(lab.insert(1)[0], description="edited for Celery's exporter")
            query = "http://127.0.0.1:9090/api/v1/query?query=sum(celery_task_succeeded_total)"
            return bool(json.loads(get(query)[1])["data"]["result"])

        eventually(counted, "tasks are counted", SETTLED_S)
        log = stack.project.type("docker compose --profile monitoring logs celery-exporter")
        assert "NoPermission" not in log

    def test_grafana_keeps_its_own_folders(self, stack: Stack) -> None:
        listed = stack.project.type(
            "docker compose --profile monitoring exec -T grafana ls /etc/grafana/provisioning"
        )
        assert listed.split() == ["alerting", "dashboards", "datasources", "plugins"]


def test_a_busy_worker_is_killed(stack: Stack, lab: Lab, provider: ScriptedProvider) -> None:
    """Nothing is lost, and no more is paid again than what was in flight."""
    lab.await_quiet(SETTLED_S)
    provider.reset()
    keep_busy(lab, provider)
    (worker,) = stack.ids("worker")
    stack.docker("kill", worker)
    provider.script(latency_ms=0)
    stack.project.type("docker compose up -d worker")
    await_kept(stack, provider, IN_FLIGHT)


def test_each_container_is_restarted(stack: Stack, provider: ScriptedProvider) -> None:
    # What is in flight while a store is away may be paid again, and with an empty cache what is not
    # written yet; one of ours finishes what it has begun.
    bounds = dict.fromkeys(APPLICATION, 0)
    bounds |= {"surrealdb": IN_FLIGHT, "redis": IN_FLIGHT, "cache": BUSY_ROWS}
    for service, paid_again in bounds.items():
        provider.reset()
        with stack.lab(provider) as lab:
            keep_busy(lab, provider)
        with timed(f"$ docker compose restart {service}"):
            stack.project.type(f"docker compose restart {service}")
        provider.script(latency_ms=0)
        with timed(f"all is well after the restart of {service}"):
            stack.await_healthy()
            await_kept(stack, provider, paid_again)


def test_the_engine_is_restarted(stack: Stack, provider: ScriptedProvider) -> None:
    before = stack.ids()
    provider.reset()
    with stack.lab(provider) as lab:
        keep_busy(lab, provider)
    with timed("the engine is restarted"):
        stack.docker.stop()
        provider.script(latency_ms=0)
        stack.docker.start()
        stack.await_healthy()
    assert stack.ids() == before
    await_kept(stack, provider, BUSY_ROWS)  # the cache is empty, too


def test_a_new_version_reaches_everything(stack: Stack) -> None:
    """Its code, and what it needs in Redis."""
    project = stack.project
    version = re.search(
        r'__version__ = "(.+)"', (project.folder / "embed_star/__init__.py").read_text()
    )
    assert version
    project.edit_upstream("embed_star/__init__.py", version[1], f"{version[1]}.post1")
    project.edit_upstream(
        "deploy/redis/users.acl.example", "+zrevrangebyscore", "+zrevrangebyscore +echo"
    )
    project.commit("a new version")
    follow(stack, UPGRADE)
    stack.await_healthy()
    # The version before, once: for a way back.
    assert len(stack.leftovers()["images"]) == 1
    stack.docker("image", "prune", "--force")
    told = project.type("docker compose exec -T worker embed-star --version")
    assert f"{version[1]}.post1" in told
    echo = project.type(
        f"docker compose exec -T -e REDISCLI_AUTH={stack.secret('observer_password')} redis"
        " redis-cli --user embed_star_observer echo hi"
    )
    assert echo.strip() == "hi"


def test_a_backup_is_restored(
    stack: Stack, lab: Lab, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """On an empty database, with the rows put back: nothing is paid for again."""
    project = stack.project
    lab.await_quiet(SETTLED_S)
    rows = lab.report().rows
    (exported,) = lab.query("SELECT * FROM repo")
    text = (project.folder / "docs/backup.md").read_text()
    lines = re.findall(
        r"^(install -d .*backups|docker compose run .* backup .*)$", text, re.MULTILINE
    )
    assert len(lines) == 2
    for line in lines:
        project.type(line)
    project.type("docker compose --profile '*' down --volumes")
    assert stack.docker("volume", "ls", "--quiet") == ""
    project.type("docker compose up -d surrealdb migrate redis cache")
    project.type("docker compose wait migrate || true")
    with stack.lab(provider) as fresh:
        fresh.write({one["id"].id: {k: v for k, v in one.items() if k != "id"} for one in exported})
        provider.reset()
        restore = lines[1].replace(" backup /", " restore /")
        project.type(restore)
        project.type("docker compose up -d")
        fresh.await_quiet(SETTLED_S)
        found = fresh.report()
    assert (found.rows, found.embedded) == (rows, rows)
    assert not found.paid
    found.assert_kept()


def test_the_databases_own_export_and_import(stack: Stack, provider: ScriptedProvider) -> None:
    """As the runbooks have them, into another database of the same server."""
    table = commands_of("docker")
    (export,), (restore,) = table["`surreal export …`"], table["`surreal import …`"]
    stack.project.type(export)
    stack.project.type(restore.replace("--database stars", "--database copy"))
    stack.project.type(
        export.replace("--database stars", "--database copy").replace("backup", "copy")
    )
    saved, copied = (
        set(re.findall(r"\bid: repo:[^\s,}]+", (stack.project.folder / name).read_text()))
        for name in ("backup.surql", "copy.surql")
    )
    with stack.lab(provider) as lab:
        assert len(copied) == lab.report().rows
    assert copied == saved


def test_down_and_up_again(stack: Stack, provider: ScriptedProvider) -> None:
    with stack.lab(provider) as lab:
        before = lab.report()
    down = re.search(
        r"`(docker compose --profile '\*' down)`", (stack.project.folder / "README.md").read_text()
    )
    assert down
    for when in ("at work", "just started"):
        since = time.time()
        with timed(f"$ {down[1]}, of what is {when}"):
            stack.project.type(down[1])
        assert stack.leftovers() == {"volumes": [], "images": []}
        assert stack.killed(since) == []
        stack.project.type("docker compose up -d")
    stack.await_healthy()
    with stack.lab(provider) as lab:
        after = lab.report()
        assert (after.rows, after.embedded) == (before.rows, before.embedded)
        after.assert_kept()
