"""Migrations: in order, once each, whoever else is at it, and after whatever end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_star.errors import SchemaError, StoreError
from embed_star.services.store import target_of
from embed_star.settings import Settings
from embed_star.store import migrations as module
from embed_star.store.client.pool import Database, Pool
from embed_star.store.migrations import Migration, Migrator, find_directory, read_migrations
from tests.conftest import MakeSettings
from tests.support.servers import PROMPT_S

ONE = Migration(1, "one", "DEFINE TABLE done; CREATE done:1 RETURN NONE;")
TWO = Migration(2, "two", "-- a comment\nCREATE done:2 RETURN NONE; -- and another")
THREE = Migration(3, "three", "CREATE done:3 RETURN NONE")


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
def database(settings: Settings) -> Database:
    return Database(Pool(target_of(settings)))


def done(database: Database) -> list[int]:
    (rows,) = database.query("SELECT VALUE id FROM done")
    return [row.id for row in rows]


class TestApply:
    def test_each_is_applied_once_and_in_order(self, database: Database) -> None:
        applied: list[Migration] = []
        assert Migrator(database, [ONE, TWO]).apply(applied.append) == 2
        assert applied == [ONE, TWO]
        assert Migrator(database, [ONE, TWO]).apply(applied.append) == 0
        assert Migrator(database, [ONE, TWO, THREE]).apply(applied.append) == 1
        assert applied == [ONE, TWO, THREE]
        assert done(database) == [1, 2, 3]

    def test_one_that_fails_leaves_nothing_of_itself(self, database: Database) -> None:
        bad = Migration(2, "bad", "CREATE done:2 RETURN NONE; THROW 'no'; CREATE done:3;")
        with pytest.raises(StoreError, match="no"):
            Migrator(database, [ONE, bad]).apply()
        assert done(database) == [1]
        assert Migrator(database, [ONE, bad]).pending() == [bad]
        assert Migrator(database, [ONE, TWO]).apply() == 1  # nothing stands in the way
        assert done(database) == [1, 2]

    def test_pending_changes_nothing(self, database: Database) -> None:
        migrator = Migrator(database, [ONE, TWO])
        for _ in range(2):
            assert migrator.pending() == [ONE, TWO]
        with pytest.raises(SchemaError, match=r"lacks 2 migration.*embed-star migrate"):
            migrator.check()
        (info,) = database.query("INFO FOR DB")
        assert info["tables"] == {}
        migrator.apply()
        migrator.check()

    def test_a_file_that_changed_since_is_refused(self, database: Database) -> None:
        Migrator(database, [ONE, TWO]).apply()
        changed = Migration(1, "one", ONE.sql + " ")
        with pytest.raises(SchemaError, match="0001_one was applied and its file changed"):
            Migrator(database, [changed, TWO, THREE]).apply()
        assert done(database) == [1, 2]
        assert Migrator(database, [ONE, TWO, THREE]).apply() == 1  # and its lock is gone

    def test_a_newer_database_is_refused(self, database: Database) -> None:
        Migrator(database, [ONE, TWO, THREE]).apply()
        with pytest.raises(SchemaError, match=r"is at migration 3, .* knows only 2: install"):
            Migrator(database, [ONE, TWO]).check()

    def test_one_that_never_ends_gives_up_in_words(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Migrator(database, [ONE]).apply()
        database.query(
            "CREATE embedding_migration:lock SET token = 'other', expires = time::now() + 1h"
        )
        monkeypatch.setattr(module, "LOCK_S", 0.1)
        with pytest.raises(SchemaError, match="another process has been migrating"):
            Migrator(database, [ONE, TWO]).apply()
        assert done(database) == [1]

    def test_one_whose_lock_was_taken_over_stops(self, database: Database) -> None:
        def lose_it(_: Migration) -> None:
            database.query("UPDATE embedding_migration:lock SET token = 'other'")

        with pytest.raises(StoreError):
            Migrator(database, [ONE, TWO]).apply(lose_it)
        assert done(database) == [1]


def _migrate(settings: Settings, start: Callable[[], object]) -> None:
    database = Database(Pool(target_of(settings)))
    start()
    Migrator(database, [ONE, TWO, THREE]).apply()


class TestManyAtOnce:
    def test_eight_processes_apply_each_once(self, settings: Settings, database: Database) -> None:
        context = multiprocessing.get_context("fork")
        start = context.Barrier(8)
        processes = [
            context.Process(target=_migrate, args=(settings, start.wait)) for _ in range(8)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(2 * PROMPT_S)
        assert [process.exitcode for process in processes] == [0] * 8
        assert done(database) == [1, 2, 3]  # a second CREATE would have failed
        Migrator(database, [ONE, TWO, THREE]).check()
        assert database.query("SELECT * FROM embedding_migration:lock") == [[]]

    def test_one_killed_half_way_is_continued(self, settings: Settings, database: Database) -> None:
        code = (
            "import os, signal\n"
            "from embed_star.services.store import target_of\n"
            "from embed_star.settings import load_settings\n"
            "from embed_star.store import migrations\n"
            "from embed_star.store.client.pool import Database, Pool\n"
            "from tests.integration.test_migrations import ONE, TWO\n"
            "migrations.LOCK_S = 0.5\n"
            "database = Database(Pool(target_of(load_settings(_env_file=None))))\n"
            "kill = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
            "migrations.Migrator(database, [ONE, TWO]).apply(kill)\n"
        )
        environment = {
            name.upper(): value.get_secret_value() if name == "db_pass" else str(value)
            for name, value in settings.model_dump().items()
            if name.startswith("db_")
        }
        root = Path(__file__).parents[2]
        killed = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=60.0,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert done(database) == [1]
        assert Migrator(database, [ONE, TWO]).pending() == [TWO]
        # Its lock ends by itself; the next one waits for that.
        assert Migrator(database, [ONE, TWO]).apply() == 1
        assert done(database) == [1, 2]


class TestFiles:
    def write(self, directory: Path, *names: str) -> Path:
        for name in names:
            (directory / name).write_bytes(b"RETURN 1;\r\nRETURN 2;\r\n")
        return directory

    def test_are_read_in_order(self, tmp_path: Path) -> None:
        self.write(tmp_path, "0002_b.surql", "0001_a.surql", "README.md")
        found = read_migrations(tmp_path)
        assert [(one.version, one.name) for one in found] == [(1, "a"), (2, "b")]

    def test_line_ends_do_not_count(self, tmp_path: Path) -> None:
        (one,) = read_migrations(self.write(tmp_path, "0001_a.surql"))
        assert one.checksum == Migration(1, "a", "RETURN 1;\nRETURN 2;\n").checksum

    @pytest.mark.parametrize(
        "names",
        [["0002_b.surql"], ["0001_a.surql", "0003_c.surql"], ["0001_a.surql", "0001_b.surql"]],
    )
    def test_a_gap_in_the_numbers_is_refused(self, tmp_path: Path, names: list[str]) -> None:
        with pytest.raises(SchemaError, match="without a gap"):
            read_migrations(self.write(tmp_path, *names))

    @pytest.mark.parametrize("name", ["1_a.surql", "0001-a.surql", "0001_A.surql", "x.surql"])
    def test_a_name_of_another_form_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SchemaError, match=name):
            read_migrations(self.write(tmp_path, name))

    def test_the_project_s_own_apply_and_spare_a_user_s_table(self, database: Database) -> None:
        database.query(
            "DEFINE TABLE repo SCHEMAFULL; DEFINE FIELD full_name ON repo TYPE string;"
            "CREATE repo:1 SET full_name = 'a'"
        )
        before = database.query("INFO FOR TABLE repo")
        migrator = Migrator(database, read_migrations(find_directory()))
        assert migrator.apply() == len(read_migrations(find_directory())) >= 2
        migrator.check()
        assert database.query("INFO FOR TABLE repo") == before
        assert database.query("SELECT VALUE full_name FROM repo") == [["a"]]
