"""The command line as people use and misuse it, each time in a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_star.cli.main import COMMANDS
from embed_star.devstack.servers import LocalServers
from tests.support.command_line import EMBED_STAR, Finished, celery, embed_star
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import find_surreal, local_servers

CANARY = "canary-4f1c9a"
"""Is part of every secret, and must be printed nowhere."""

DIMENSIONS = 8
NEED_A_DATABASE = (("watch",), ("status",), ("search", "x"), ("failures",), ("reconcile",))


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider("--dimensions", str(DIMENSIONS)) as provider:
        yield provider


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    find_surreal()
    with local_servers(tmp_path_factory.mktemp("commands") / "data") as servers:
        yield servers


@pytest.fixture(scope="module")
def env(servers: LocalServers, provider: ScriptedProvider) -> dict[str, str]:
    """Settings with which everything works; the database is migrated."""
    env = {
        **servers.environment,
        **servers.root_environment,
        "DB_PASS": f"{CANARY}-database",
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "scripted-model",
        "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": f"{CANARY}-key",
    }
    printed = embed_star("migrate", "--bootstrap", env=env).assert_worked()
    assert "applied 0001_work" in printed
    return env


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def refused(done: Finished, *names: str) -> None:
    done.assert_one_sentence(*names)
    done.assert_keeps(CANARY)


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("BATCH_SIZE", "many"),
            ("BATCH_SIZE", "0"),
            ("DB_URL", "http://127.0.0.1:8000"),
            ("REDIS_URL", f"tcp://:{CANARY}@127.0.0.1"),
            ("EMBEDDING_PROVIDER", "acme"),
            ("OPENAI_BASE_URL", "not a url"),
            ("LOG_LEVEL", "LOUD"),
            ("LOCK_TTL_S", "1"),
            ("TEXT_FIELDS", "full_name; DELETE repo"),
            ("MONITORING_HOST", "everywhere"),
        ],
    )
    def test_a_wrong_one_is_named(self, env: dict[str, str], name: str, value: str) -> None:
        refused(embed_star("status", env={**env, name: value}), name)

    def test_all_wrong_ones_at_once(self, env: dict[str, str]) -> None:
        wrong = {"DB_PASS": "", "BATCH_SIZE": "x", "DB_POOL_SIZE": "-1", "SWEEP_INTERVAL_S": "soon"}
        refused(embed_star("watch", env={**env, **wrong}), *wrong)

    def test_a_missing_password(self, env: dict[str, str]) -> None:
        refused(embed_star("migrate", env={**env, "DB_PASS": ""}), "DB_PASS")

    def test_a_missing_key(self, env: dict[str, str]) -> None:
        hosted = {"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": ""}
        refused(embed_star("status", env={**env, **hosted}), "OPENAI_API_KEY")

    def test_celery_says_it_too(self, env: dict[str, str]) -> None:
        for command in ("worker", "beat", "report"):
            refused(celery(command, env={**env, "BATCH_SIZE": "x"}), "BATCH_SIZE")

    def test_a_metadata_address_is_refused(self, env: dict[str, str]) -> None:
        done = embed_star(
            "search", "x", env={**env, "OPENAI_BASE_URL": "http://169.254.169.254/v1"}
        )
        refused(done, "OPENAI_BASE_URL")


class TestServersAway:
    @pytest.mark.parametrize(
        "command",
        [one for one in NEED_A_DATABASE if one[0] != "watch"],  # that waits for it
        ids=lambda command: command[0],
    )
    def test_no_database(
        self, env: dict[str, str], closed_port: int, command: tuple[str, ...]
    ) -> None:
        away = {**env, "DB_URL": f"ws://127.0.0.1:{closed_port}"}
        refused(embed_star(*command, env=away), "DB_URL")

    @pytest.mark.parametrize("command", NEED_A_DATABASE[:2], ids=lambda command: command[0])
    def test_a_wrong_password(self, env: dict[str, str], command: tuple[str, ...]) -> None:
        wrong = {**env, "DB_PASS": f"{CANARY}-wrong", "MONITORING_PORT": "0"}
        refused(embed_star(*command, env=wrong), "DB_USER", "DB_PASS")

    @pytest.mark.parametrize("command", NEED_A_DATABASE[:2], ids=lambda command: command[0])
    def test_another_model(self, env: dict[str, str], command: tuple[str, ...]) -> None:
        other = {**env, "EMBEDDING_DIMENSIONS": "9", "MONITORING_PORT": "0"}
        refused(embed_star(*command, env=other), "embed-star migrate")

    def test_a_worker_with_another_model_does_not_start(self, env: dict[str, str]) -> None:
        other = {**env, "EMBEDDING_DIMENSIONS": "9", "PYTHONWARNINGS": "ignore"}  # of being root
        refused(celery("worker", env=other), "embed-star migrate")

    def test_a_database_that_is_not_migrated(self, env: dict[str, str]) -> None:
        bare = {**env, "DB_DATABASE": "bare"}
        refused(embed_star("status", env=bare), "DB_USER", "migrate --bootstrap")

    def test_no_redis(self, env: dict[str, str], closed_port: int) -> None:
        away = {**env, "REDIS_URL": f"redis://:{CANARY}@127.0.0.1:{closed_port}/0"}
        done = embed_star("status", env=away)
        done.assert_keeps(CANARY)
        assert "Redis" in done.assert_worked()  # the database can be asked all the same
        found = embed_star("doctor", env=away)
        assert "FAIL  redis" in found.out
        assert found.code == 1
        found.assert_keeps(CANARY)

    def test_bootstrap_with_a_wrong_root_password(self, env: dict[str, str]) -> None:
        wrong = {**env, "ROOT_DB_PASS": f"{CANARY}-wrong"}
        refused(embed_star("migrate", "--bootstrap", env=wrong), "root")

    def test_bootstrap_without_a_root_password(self, env: dict[str, str]) -> None:
        refused(
            embed_star("migrate", "--bootstrap", env={**env, "ROOT_DB_PASS": ""}), "ROOT_DB_PASS"
        )


class TestDoctor:
    def test_all_is_well(self, env: dict[str, str]) -> None:
        found = json.loads(embed_star("doctor", "--json", env=env).assert_worked())
        assert {name: check["ok"] for name, check in found.items()} == dict.fromkeys(
            ("database", "schema", "redis", "provider"), True
        )

    def test_a_misspelt_setting(
        self, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text("BATCH_SZE=5\n")
        done = embed_star("doctor", env=env)
        assert done.code == 1
        assert (
            "FAIL  settings  names in .env that nothing reads: BATCH_SZE is BATCH_SIZE" in done.out
        )

    @pytest.mark.parametrize(
        ("script", "setting"),
        [
            ({"auth": "another"}, "OPENAI_API_KEY"),
            ({"dimensions": 9}, "EMBEDDING_DIMENSIONS"),
        ],
    )
    def test_a_provider_that_does_not_fit(
        self,
        env: dict[str, str],
        provider: ScriptedProvider,
        script: dict[str, object],
        setting: str,
    ) -> None:
        provider.script(**script)
        try:
            done = embed_star("doctor", env=env)
            searched = embed_star("search", "x", env=env)
        finally:
            provider.reset()
        assert done.code == 1
        (line,) = [line for line in done.out.splitlines() if line.startswith("FAIL")]
        assert setting in line
        done.assert_keeps(CANARY)
        refused(searched, setting)

    def test_no_provider(self, env: dict[str, str], closed_port: int) -> None:
        away = {**env, "OPENAI_BASE_URL": f"http://127.0.0.1:{closed_port}/v1"}
        assert "FAIL  provider" in embed_star("doctor", env=away).out
        refused(embed_star("search", "x", env=away), "OPENAI_BASE_URL")


class TestMigrate:
    def test_again_does_nothing(self, env: dict[str, str]) -> None:
        assert "nothing to do" in embed_star("migrate", env=env).assert_worked()

    def test_dry_run_says_what_and_does_not(self, env: dict[str, str]) -> None:
        other = {**env, "EMBEDDING_DIMENSIONS": "9"}
        said = embed_star("migrate", "--dry-run", env=other).assert_worked()
        assert "would make" in said
        assert re.search(r"that is [\d,]+ repos, at most some [\d,]+ tokens|no repos yet", said)
        embed_star("status", env=env).assert_worked()  # the space is the old one still

    def test_waits_for_another_that_does_it(self, env: dict[str, str]) -> None:
        """Before there is a user, a database or a server, it is not too early to wait."""
        awaited = {**env, "DB_DATABASE": "awaited"}
        argv = [*EMBED_STAR, "migrate", "--wait", "60"]
        with subprocess.Popen(
            argv, env={**os.environ, **awaited, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE
        ) as waiting:
            assert waiting.stdout is not None
            assert waiting.stdout.readline().startswith(b"waiting: ")
            embed_star("migrate", "--bootstrap", env=awaited).assert_worked()
            assert waiting.wait(30) == 0
        assert embed_star("migrate", "--wait", "1", env=awaited).assert_worked() == ""

    def test_says_what_it_waited_for_in_vain(self, env: dict[str, str]) -> None:
        nobody = {**env, "DB_DATABASE": "nobodys"}
        refused(embed_star("migrate", "--wait", "0.1", env=nobody), "migrate --bootstrap")
        other = {**env, "EMBEDDING_DIMENSIONS": "9"}
        refused(embed_star("migrate", "--wait", "0.1", env=other), "embed-star migrate")

    def test_waits_for_a_server_that_is_late(self, tmp_path: Path) -> None:
        """As a Job does whose database has still to get its volume."""
        find_surreal()
        with local_servers(tmp_path / "late", redis=False) as late:
            env = {**late.environment, **late.root_environment, "DB_PASS": "x"}
            late.stop_server("surrealdb")
            away = embed_star("migrate", "--bootstrap", "--wait", "0.1", env=env)
            refused(away, "DB_URL")
            with subprocess.Popen(
                [*EMBED_STAR, "migrate", "--bootstrap", "--wait", "60"],
                env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
            ) as waiting:
                assert waiting.stdout is not None
                assert waiting.stdout.readline().startswith(b"waiting: ")
                late.start_server("surrealdb")
                assert waiting.wait(30) == 0

    def test_does_one_thing_or_the_other(self, env: dict[str, str]) -> None:
        assert embed_star("migrate", "--wait", "1", "--dry-run", env=env).code == 2


class TestImport:
    def test_what_is_no_file_of_repositories(self, env: dict[str, str], tmp_path: Path) -> None:
        file = tmp_path / "notes.txt"
        file.write_text("dear diary\nnothing happened\n")
        refused(embed_star("import", str(file), env=env), "notes.txt")
        refused(embed_star("import", str(tmp_path / "gone.jsonl"), env=env), "gone.jsonl")

    def test_a_bad_line_stops_no_good_one(self, env: dict[str, str], tmp_path: Path) -> None:
        file = tmp_path / "repos.jsonl"
        file.write_text('{"full_name": "a/b"}\n{"full_name": \n{"full_name": "c/d"}\n')
        done = embed_star("import", str(file), "--json", env=env)
        assert done.code == 1
        assert f"{file.name}:2:" in done.err
        assert "Traceback" not in done.err
        summary = json.loads(done.out)
        assert (summary["read"], summary["written"], summary["bad"]) == (3, 2, 1)
        pending = json.loads(embed_star("status", "--json", env=env).assert_worked())["pending"]
        assert sum(pending.values()) >= 2

    def test_dry_run_writes_nothing(self, env: dict[str, str], tmp_path: Path) -> None:
        before = embed_star("status", "--json", env=env).assert_worked()
        file = tmp_path / "repos.csv"
        file.write_text("full_name,stargazers_count\nx/y,3\n")
        embed_star("import", str(file), "--dry-run", env=env)
        after = embed_star("status", "--json", env=env).assert_worked()
        assert json.loads(before)["pending"] == json.loads(after)["pending"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    assert "Usage: embed-star" in embed_star(command, "--help").assert_worked()


def test_reports_on_an_empty_database(env: dict[str, str]) -> None:
    report = json.loads(embed_star("status", "--json", env=env).assert_worked())
    assert report["embedded"] == 0
    assert report["failed"] == {}
    assert embed_star("search", "x", "--json", env=env).assert_worked() == "[]\n"
    assert "no row has failed" in embed_star("failures", env=env).assert_worked()
    assert "repos checked" in embed_star("reconcile", env=env).assert_worked()


def test_flower_is_there(env: dict[str, str]) -> None:
    pytest.importorskip("flower", reason="needs pip install 'embed-star[flower]'")
    assert "Web based tool" in celery("flower", "--help", env=env).assert_worked()
