"""Namespace, database and the workload's user: the one thing that needs root."""

from __future__ import annotations

from embed_star.errors import ConfigError
from embed_star.store.connection import Connection, Target


def bootstrap(root: Target, user: str, password: str) -> None:
    """Make what `root` (a target with `root=True`) names, and `user` with EDITOR on it.

    EDITOR reads and writes the database and its schema, and neither users nor anything
    outside. Done again, it sets the password anew. Names come from the settings, which
    allow letters, digits and underscores.
    """
    if any(ord(character) < 32 for character in password):
        raise ConfigError("settings: DB_PASS holds a control character")
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    connection = Connection(root)
    try:
        connection.query(
            f"DEFINE NAMESPACE IF NOT EXISTS {root.namespace};"
            f"USE NS {root.namespace};"
            f"DEFINE DATABASE IF NOT EXISTS {root.database};"
            f"USE DB {root.database};"
            # A literal: DEFINE USER takes no parameter for a password on 2.x.
            f"DEFINE USER OVERWRITE {user} ON DATABASE PASSWORD '{quoted}' ROLES EDITOR "
            "DURATION FOR TOKEN 1h, FOR SESSION NONE"
        )
    finally:
        connection.close()
