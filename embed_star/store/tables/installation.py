"""Which installation a database is of: a random name that keeps two apart on one Redis."""

from __future__ import annotations

from embed_star.errors import AlreadyExists, SchemaError, StoreError
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database

_THIS = record("embedding_installation", "this")


class Installation:
    """The record that a migration makes, once for all processes that start at once.

    It goes along when the database is exported and imported elsewhere; a backup of
    `embed-star backup` is without it.
    """

    def __init__(self, database: Database, wanted: str = "") -> None:
        """`wanted` is the name that the settings give, if any."""
        self._database = database
        self._wanted = wanted

    def name(self) -> str:
        """The name in force. Raises SchemaError when there is none, or the settings differ."""
        found = self._found()
        if not found:
            raise SchemaError("the database has no installation: run `embed-star migrate`")
        if self._wanted and found != self._wanted:
            raise SchemaError(
                f"the database is of the installation {found}, and INSTALLATION_ID says "
                f"{self._wanted}: mend that, or, if this is a copy of another installation's "
                "database, run `embed-star migrate` to give it that name"
            )
        return found

    def ensure(self) -> str:
        """Make it what the settings say, or what it was; the name if that is new, else "".

        Doing it twice, or in several processes at once, changes nothing.
        """
        found = self._found()
        if found and self._wanted in ("", found):
            return ""
        if self._wanted:
            self._database.query(
                "UPSERT $id SET name = $name RETURN NONE", id=_THIS, name=self._wanted
            )
        else:
            try:
                self._database.query("CREATE $id SET name = rand::ulid() RETURN NONE", id=_THIS)
            except AlreadyExists:
                return ""
        return self._found()

    def _found(self) -> str:
        try:
            (rows,) = self._database.query("SELECT VALUE name FROM $id", id=_THIS)
        except StoreError as error:
            if "does not exist" in str(error):  # 3.x: before the first migration
                return ""
            raise
        return str(rows[0]) if rows else ""
