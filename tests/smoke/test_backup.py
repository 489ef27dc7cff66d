"""Disaster recovery as people do it: commands, a new server, and what the provider was paid for."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_star.devstack.servers import LocalServers
from tests.support.command_line import EMBED_STAR, Finished, embed_star, run
from tests.support.fleet import Fleet, Tenant
from tests.support.servers import find_surreal

MODEL = "scripted-backup"
ROWS = 300
EDITED = [3, 30, 299]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """A database that is embedded, one row of it failed, and no process left."""
    with Fleet(tmp_path_factory.mktemp("old")) as fleet:
        tenant = fleet.tenant(EMBEDDING_MODEL=MODEL)
        fleet.provider.script(poison="poison")
        tenant.worker()
        tenant.producer()
        tenant.lab.insert(ROWS)
        tenant.lab.write({"poison": {"full_name": "poison"}})
        tenant.lab.await_quiet()
        tenant.stop()
        tenant.lab.report().assert_kept()
        yield tenant


@pytest.fixture(scope="module")
def saved(old: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "backup"
    report = json.loads(embed_star("backup", str(directory), "--json", env=old.env).assert_worked())
    assert (report["vectors"], report["failures"], report["spaces"]) == (ROWS, 1, 1)
    assert report["bytes"] == sum(p.stat().st_size for p in directory.glob("*.cbor.gz"))
    return directory


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Fleet]:
    """Other servers and a provider that was never asked."""
    with Fleet(tmp_path / "new") as fleet:
        fleet.provider.script(poison="poison")
        yield fleet


def converge(tenant: Tenant) -> None:
    tenant.worker()
    tenant.producer()
    tenant.lab.await_quiet()
    tenant.stop()


def edit(tenant: Tenant) -> None:
    for key in EDITED:
        tenant.lab.edit(key, description=f"edited {key}")


def assert_only_edited_rows_were_paid(tenant: Tenant) -> None:
    report = tenant.lab.report()
    report.assert_kept()
    assert len(report.paid) == len(EDITED)
    assert all("edited" in text for text in report.paid)
    assert (report.rows, report.embedded, len(report.failed)) == (ROWS + 1, ROWS, 1)


class TestBackup:
    def test_a_restored_database_pays_for_edited_rows_only(self, saved: Path, new: Fleet) -> None:
        tenant = new.tenant(EMBEDDING_MODEL=MODEL)
        tenant.lab.insert(ROWS)
        tenant.lab.write({"poison": {"full_name": "poison"}})
        edit(tenant)
        dry = embed_star("restore", str(saved), "--dry-run", env=tenant.env).assert_worked()
        assert f"{ROWS + 1} records" in dry
        printed = embed_star("restore", str(saved), env=tenant.env).assert_worked()
        assert f"vectors: {ROWS} written, 0 there already" in printed
        embed_star("reconcile", env=tenant.env).assert_worked()
        converge(tenant)
        assert_only_edited_rows_were_paid(tenant)

    def test_beside_a_running_fleet(self, saved: Path, new: Fleet) -> None:
        """Whoever comes first, each row has the vector of its text, paid for once at most."""
        tenant = new.tenant(EMBEDDING_MODEL=MODEL)
        tenant.worker()
        tenant.producer()
        tenant.lab.insert(ROWS)
        tenant.lab.write({"poison": {"full_name": "poison"}})
        edit(tenant)
        report = json.loads(
            embed_star("restore", str(saved), "--json", env=tenant.env).assert_worked()
        )
        assert sum(report["vectors"].values()) == ROWS
        embed_star("reconcile", env=tenant.env).assert_worked()
        tenant.lab.await_quiet()
        tenant.stop()
        tenant.lab.report().assert_kept()


def surreal(servers: LocalServers, command: str, database: str, file: Path) -> None:
    """`surreal export` or `import`, as the root user."""
    root = servers.root_environment
    endpoint = servers.environment["DB_URL"].replace("ws://", "http://")  # no export over ws
    done = run(
        *(str(find_surreal()), command, "--endpoint", endpoint),
        *("--namespace", servers.environment["DB_NAMESPACE"], "--database", database, str(file)),
        env={"SURREAL_USER": root["ROOT_DB_USER"], "SURREAL_PASS": root["ROOT_DB_PASS"]},
    )
    assert done.code == 0, done.err


class TestSurrealsOwnExport:
    def test_an_imported_database_pays_for_edited_rows_only(
        self, old: Tenant, new: Fleet, tmp_path: Path
    ) -> None:
        dump = tmp_path / "dump.surql"
        surreal(old.servers, "export", old.settings.db_database, dump)
        surreal(new.servers, "import", "imported", dump)
        env = new.environment(DB_DATABASE="imported", EMBEDDING_MODEL=MODEL)
        root = new.servers.root_environment
        embed_star("migrate", "--bootstrap", env={**env, **root}).assert_worked()
        tenant = new.tenant(DB_DATABASE="imported", EMBEDDING_MODEL=MODEL)
        assert tenant.lab.is_quiet()
        assert "0 rows put into" in embed_star("reconcile", env=env).assert_worked()
        edit(tenant)
        converge(tenant)
        assert_only_edited_rows_were_paid(tenant)

    def test_rows_alone_fire_no_event_and_reconcile_finds_them(
        self, old: Tenant, new: Fleet, tmp_path: Path
    ) -> None:
        """A dump with no table of ours, imported into a database that is watched already."""
        dump = tmp_path / "rows.surql"
        rows = [{"id": key, "full_name": f"imported/{key}"} for key in range(50)]
        dump.write_text(f"OPTION IMPORT;\nINSERT INTO repo {json.dumps(rows)};\n")
        tenant = new.tenant(EMBEDDING_MODEL=MODEL)
        surreal(new.servers, "import", tenant.settings.db_database, dump)
        assert tenant.lab.is_quiet()
        assert "50 rows put into" in embed_star("reconcile", env=tenant.env).assert_worked()
        converge(tenant)
        report = tenant.lab.report()
        report.assert_kept()
        assert report.embedded == 50


class TestWhatIsRefused:
    """One sentence each, and exit code 1."""

    def test_a_wrong_directory(self, old: Tenant, tmp_path: Path) -> None:
        done = embed_star("restore", str(tmp_path / "none"), env=old.env)
        done.assert_one_sentence("none", "no directory")
        embed_star("restore", str(tmp_path), env=old.env).assert_one_sentence("manifest.json")

    def test_a_directory_in_use(self, old: Tenant, saved: Path, tmp_path: Path) -> None:
        embed_star("backup", str(saved), env=old.env).assert_one_sentence("holds a backup")
        (tmp_path / "file").write_text("x")
        embed_star("backup", str(tmp_path), env=old.env).assert_one_sentence("not empty")
        embed_star("backup", str(tmp_path / "file"), env=old.env).assert_one_sentence("file")

    def test_a_torn_file(self, old: Tenant, saved: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in saved.iterdir():
            (copy / path.name).write_bytes(path.read_bytes()[:-9])
        embed_star("restore", str(copy), env=old.env).assert_one_sentence("manifest.json")
        (copy / "manifest.json").write_bytes((saved / "manifest.json").read_bytes())
        embed_star("restore", str(copy), env=old.env).assert_one_sentence("is torn")

    def test_other_settings(self, old: Tenant, saved: Path) -> None:
        env = {**old.env, "EMBEDDING_MODEL": "other"}
        embed_star("restore", str(saved), env=env).assert_one_sentence("embed-star migrate")

    def test_a_database_that_is_not_migrated(self, old: Tenant, saved: Path) -> None:
        root = old.servers.root_environment
        env = {**old.env, "DB_DATABASE": "bare", "DB_USER": root["ROOT_DB_USER"]}
        for command in ("backup", "restore"):
            done = embed_star(command, str(saved), env={**env, "DB_PASS": root["ROOT_DB_PASS"]})
            done.assert_one_sentence()

    def test_a_full_disk(self, old: Tenant, tmp_path: Path) -> None:
        """The system refuses to let a file grow, as it does where no space is left."""
        target = tmp_path / "backup"
        done = _limited(4096, "backup", str(target), env=old.env)
        done.assert_one_sentence(str(target), "too large")
        assert not (target / "manifest.json").exists()
        embed_star("restore", str(target), env=old.env).assert_one_sentence("no finished backup")
        embed_star("backup", str(target), env=old.env).assert_worked()


def _limited(file_bytes: int, *arguments: str, env: dict[str, str]) -> Finished:
    done = subprocess.run(
        [*EMBED_STAR, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_a_terminal_sees_a_bar(old: Tenant, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process: subprocess.Popen[Any] = subprocess.Popen(
        [*EMBED_STAR, "backup", str(tmp_path / "backup")],
        env={**os.environ, **old.env, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 65536):
            shown += data
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(leader)
    assert process.wait(30) == 0
    assert f"{ROWS + 1}/{ROWS + 1}".encode() in shown
