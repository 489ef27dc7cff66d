"""New databases on one server, at little cost."""

from __future__ import annotations

from embed_star.store.bootstrap import bootstrap, user_sql
from embed_star.store.client.connection import Connection, Target
from embed_star.store.client.quoting import quoted_text


class Databases:
    """`bootstrap` makes the first one. The others get the same user, whose password is hashed
    once: hashing, and signing in as root, are most of what a new database costs."""

    def __init__(self, first: Target, user: str, password: str) -> None:
        bootstrap(first, user, password)
        self._root = Connection(first)
        (hashed,) = self._root.query("RETURN crypto::argon2::generate($it)", {"it": password})
        given, instead = f"PASSWORD {quoted_text(password)}", f"PASSHASH {quoted_text(hashed)}"
        self._user_sql = user_sql(user, password).replace(given, instead)

    def make(self, name: str) -> None:
        """A database with nothing in it but the user."""
        self._root.query(f"DEFINE DATABASE `{name}`; USE DB `{name}`; {self._user_sql}")

    def close(self) -> None:
        self._root.close()
