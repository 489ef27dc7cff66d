"""Creates the namespace, the database and the workload's user. Nothing else needs root."""

from __future__ import annotations

from embed_star.errors import ConfigError
from embed_star.store.client.connection import Connection, Target
from embed_star.store.client.quoting import quoted, quoted_text


def user_sql(user: str, password: str) -> str:
    """The statement that makes `user` an EDITOR of the selected database, with this password."""
    return (
        # A literal: DEFINE USER takes no parameter for a password on 2.x.
        f"DEFINE USER OVERWRITE {quoted(user)} ON DATABASE PASSWORD {quoted_text(password)} "
        "ROLES EDITOR DURATION FOR TOKEN 1h, FOR SESSION NONE"
    )


def bootstrap(root: Target, user: str, password: str) -> None:
    """Create the namespace and database of `root` (a target with `root=True`), and `user` there.

    `user` is an EDITOR: it reads and writes the database and its schema, but no users and
    nothing outside. A second call sets the password again. Raises ConfigError when the
    password holds a control character.
    """
    if any(ord(character) < 32 for character in password):
        raise ConfigError("settings: DB_PASS holds a control character")
    connection = Connection(root)
    try:
        connection.query(
            f"DEFINE NAMESPACE IF NOT EXISTS {quoted(root.namespace)};"
            f"USE NS {quoted(root.namespace)};"
            f"DEFINE DATABASE IF NOT EXISTS {quoted(root.database)};"
            f"USE DB {quoted(root.database)};"
            f"{user_sql(user, password)}"
        )
    finally:
        connection.close()
