"""The installation's name: random, so that two databases can share one Redis."""

from __future__ import annotations

from embed_star.errors import AlreadyExists, SchemaError, StoreError
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database

_THIS = record("embedding_installation", "this")


class Installation:
    """The record with the name. Processes that start together create it once.

    An export of the database contains it; a backup of `embed-star backup` does not.
    """

    def __init__(self, database: Database, wanted: str = "") -> None:
        """`wanted` is the name in the settings, or empty."""
        self._database = database
        self._wanted = wanted

    def name(self) -> str:
        """The stored name. Raises SchemaError when there is none, or the settings differ."""
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
        """Store the settings' name, else a random one if none is stored.

        Returns the name if it is new, else "". A second call changes nothing, nor does
        another process that does it at the same time.
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
