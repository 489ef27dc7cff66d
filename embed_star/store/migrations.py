"""Applies the migrations: numbered files, in order, each once, even if many processes start.

Each file and its record are one transaction: after a crash a migration is either applied
or not begun. A lock in the same table makes other processes wait.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from embed_star.errors import AlreadyExists, SchemaError, StoreError, WriteConflict
from embed_star.store.client.codec import record
from embed_star.store.client.connection import FENCE
from embed_star.store.client.pool import Database

LOCK_S = 30.0
_POLL_S = 0.1
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.surql")
_LOCK = record("embedding_migration", "lock")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, with line ends as on Unix."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def find_directory() -> Path:
    """`migrations/` beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def read_migrations(directory: Path) -> list[Migration]:
    """The files of `directory` in order. Raises SchemaError on a gap or a stray name."""
    found = []
    for path in sorted(directory.glob("*.surql")):
        match = _FILE.fullmatch(path.name)
        if not match:
            raise SchemaError(f"migrations/{path.name} is not named like 0001_what.surql")
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        found.append(Migration(int(match[1]), match[2], text))
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise SchemaError("migrations/ must be numbered 0001, 0002, … without a gap")
    return found


class Migrator:
    """Compares the files with the records in the database, and applies the missing ones."""

    def __init__(self, database: Database, migrations: list[Migration]) -> None:
        self._database = database
        self._migrations = migrations

    @property
    def latest(self) -> int:
        """The version of the last migration that this code knows."""
        return max((one.version for one in self._migrations), default=0)

    def pending(self) -> list[Migration]:
        """The migrations that `apply` would run.

        Raises SchemaError when the database is newer than this code, or when an applied
        file has changed since.
        """
        applied = self._applied()
        known = {one.version: one for one in self._migrations}
        for version, checksum in applied.items():
            if version not in known:
                raise SchemaError(
                    f"the database is at migration {max(applied)}, this embed_star knows only "
                    f"{max(known, default=0)}: install the newer embed_star"
                )
            if known[version].checksum != checksum:
                raise SchemaError(
                    f"migration {version:04d}_{known[version].name} was applied and its file "
                    "changed since: restore the file and put the change into a new one"
                )
        return [one for one in self._migrations if one.version not in applied]

    def check(self) -> None:
        """Raise SchemaError, saying what to run, unless everything is applied."""
        pending = self.pending()
        if pending:
            raise SchemaError(
                f"the database lacks {len(pending)} migration(s): run `embed-star migrate`"
            )

    def apply(self, report: Callable[[Migration], None] = lambda _: None) -> int:
        """Apply the pending migrations; how many. Safe from many processes at once.

        Calls `report` after each one. Waits while another process migrates; raises
        SchemaError when that takes longer than twice LOCK_S.
        """
        self._make_table()
        with self._lock() as token:
            todo = self.pending()
            for migration in todo:
                self._apply_one(migration, token)
                report(migration)
        return len(todo)

    def _applied(self) -> dict[int, str]:
        try:
            (rows,) = self._database.query("SELECT version, checksum FROM embedding_migration")
        except StoreError as error:
            if "does not exist" in str(error):  # 3.x: the very first start
                return {}
            raise
        return {row["version"]: row["checksum"] for row in rows if row.get("version") is not None}

    def _make_table(self) -> None:
        self._database.query(
            "DEFINE TABLE IF NOT EXISTS embedding_migration SCHEMALESS PERMISSIONS NONE"
        )

    def _apply_one(self, migration: Migration, token: str) -> None:
        # The files are part of this program; nothing from a row gets into this text.
        self._database.query(
            "BEGIN;\n"
            f"IF $lock.token != $owner {{ THROW '{FENCE}' }};\n"
            "UPDATE $lock SET expires = time::now() + $ttl RETURN NONE;\n"
            f"{migration.sql}\n;"
            "CREATE embedding_migration CONTENT { id: $version, version: $version, name: $name, "
            "checksum: $checksum, at: time::now() } RETURN NONE;\n"
            "COMMIT;",
            lock=_LOCK,
            owner=token,
            ttl=timedelta(seconds=LOCK_S),
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
        )

    @contextmanager
    def _lock(self) -> Iterator[str]:
        token = secrets.token_hex(16)
        deadline = time.monotonic() + 2 * LOCK_S
        while not self._try_lock(token):
            if time.monotonic() > deadline:
                raise SchemaError(
                    "another process has been migrating for too long: if none is, wait "
                    f"{LOCK_S:g} s and run `embed-star migrate` again"
                )
            time.sleep(_POLL_S)
        try:
            yield token
        finally:
            self._database.query(
                "DELETE $lock WHERE token = $owner RETURN NONE", lock=_LOCK, owner=token
            )

    def _try_lock(self, token: str) -> bool:
        try:
            self._database.query(
                "DELETE $lock WHERE expires < time::now() RETURN NONE;"
                "CREATE $lock SET token = $owner, expires = time::now() + $ttl RETURN NONE",
                lock=_LOCK,
                owner=token,
                ttl=timedelta(seconds=LOCK_S),
            )
        except (AlreadyExists, WriteConflict):
            return False
        return True
