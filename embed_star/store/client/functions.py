"""The functions of SurrealDB that embed_star calls, and whether the server allows them.

A server with `--deny-all` or `--deny-funcs` refuses every function that its operator does not
allow. A refused function in the event would fail the user's own writes, so all are tried first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from embed_star.errors import SchemaError, StoreError
from embed_star.store.client.pool import Database

_CALL = re.compile(r"\b[a-z0-9_]+(?:::[a-z0-9_]+)+(?=\()|\bcount(?=\()")

_TRIALS: Mapping[str, str] = {
    "array::filter": "array::filter([1], |$one| true)",
    "array::len": "array::len([])",
    "count": "count([])",
    "crypto::sha256": "crypto::sha256('')",
    "rand::ulid": "rand::ulid()",
    "record::exists": "record::exists(embedding_space:none)",
    "record::id": "record::id(embedding_space:none)",
    "record::tb": "record::tb(embedding_space:none)",
    "string::len": "string::len('')",
    "string::lowercase": "string::lowercase('')",
    "time::now": "time::now()",
    "type::is::record": "type::is::record(1, 'repo')",
    "type::record": "type::record('embedding_space', 1)",
    "type::thing": "type::thing('embedding_space', 1)",
    "vector::similarity::cosine": "vector::similarity::cosine([1], [1])",
}
"""For each function that a query or the event calls, a call that changes nothing."""

_ONLY_ON = {
    "record::exists": 2,
    "type::is::record": 2,
    "record::tb": 3,
    "type::record": 3,
    "type::thing": 2,
}


def functions_in(sql: str) -> set[str]:
    """The names of the functions that a statement calls."""
    return set(_CALL.findall(sql))


def needed(version: tuple[int, ...]) -> list[str]:
    """The functions that embed_star calls on a server of this version, sorted."""
    return sorted(name for name in _TRIALS if _ONLY_ON.get(name, version[0]) == version[0])


def check_functions(database: Database, event: str) -> None:
    """Raise SchemaError, saying what to allow, unless the server runs all needed functions.

    `event` is the statement that defines the event; the error names its functions first.
    """
    names = needed(database.version)
    if not _runs(database, *names):
        refused = [name for name in names if not _runs(database, name)]
        raise SchemaError(_refusal(refused, functions_in(event) & set(refused)))


def _runs(database: Database, *names: str) -> bool:
    """Whether the server runs them all."""
    try:
        database.query("".join(f"RETURN {_TRIALS[name]};" for name in names))
    except StoreError:
        return False
    return True


def _refusal(refused: Sequence[str], in_event: Collection[str]) -> str:
    why = "embed_star cannot work"
    if in_event:
        why = f"every write to repo would fail for the event's {' and '.join(sorted(in_event))}"
    return (
        f"this SurrealDB refuses functions without which {why}: start it with `--allow-funcs "
        f"{','.join(refused)}` besides what it allows now (docs/security.md lists all)"
    )
