"""New databases on one server, at little cost."""

from __future__ import annotations

from embed_star.store.bootstrap import bootstrap, user_sql
from embed_star.store.client.connection import Connection, Target
from embed_star.store.client.quoting import quoted_text

PASSWORD = "password-of-all-tests"
_HASH = (
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdC1vZi1hbGwtdGVzdHM$jEcP+bDSbjbckBpOuygzUdn39+nJbu4JBi6LJ4IKDf4"
)
"""Of `PASSWORD`, at the least that Argon2 may cost. At SurrealDB's own cost, to check one takes
longer than all else with which a test begins."""


def cheap_user_sql(user: str) -> str:
    """`user_sql` for a user with `PASSWORD`, who signs in at little cost."""
    given, instead = f"PASSWORD {quoted_text(PASSWORD)}", f"PASSHASH {quoted_text(_HASH)}"
    made = user_sql(user, PASSWORD).replace(given, instead)
    assert _HASH in made
    return made


def cheapen(root: Target, user: str) -> None:
    """Let `user` of this database, who has `PASSWORD`, sign in at little cost."""
    connection = Connection(root)
    connection.query(cheap_user_sql(user))
    connection.close()


class Databases:
    """`bootstrap` makes the first one. All have a user with `PASSWORD`."""

    def __init__(self, first: Target, user: str) -> None:
        bootstrap(first, user, PASSWORD)
        self._root = Connection(first)
        self._user_sql = cheap_user_sql(user)

    def make(self, name: str) -> None:
        """A database with nothing in it but the user."""
        self._root.query(f"DEFINE DATABASE `{name}`; USE DB `{name}`; {self._user_sql}")

    def close(self) -> None:
        self._root.close()
