"""What all names in Redis begin with.

Then follows the kind: `lock`, `lease`, `answer`, `runs`, `breaker`, `budget`, `suspect`,
`vector`, `dead_letters`, `celery`; and only after that anything of users.
"""

from __future__ import annotations

from urllib.parse import quote


def prefix_of(namespace: str, database: str, installation: str) -> str:
    """The names of one installation, and of nothing else on that Redis.

    Namespace and database are in them for people, for Redis' ACL, and for a copy of a
    database under another name, which has the same installation.
    """
    return f"embed_star:{_part(namespace)}:{_part(database)}:{installation}:"


def cache_prefix_of(namespace: str, database: str, installation: str) -> str:
    """Vectors are elsewhere: the cache may be a Redis, and a user of it, of its own."""
    return f"embed_star:vector:{_part(namespace)}:{_part(database)}:{installation}:"


def celery_prefix_of(prefix: str) -> str:
    """What Celery's names begin with."""
    return f"{prefix}celery:"


def _part(name: str) -> str:
    return quote(name, safe="")
