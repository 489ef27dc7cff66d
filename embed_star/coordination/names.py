"""The prefixes of all names in Redis.

After the prefix comes the kind (`lock`, `lease`, `answer`, `runs`, `breaker`, `budget`,
`suspect`, `vector`, `dead_letters`, `celery`), and only then anything that users choose.
"""

from __future__ import annotations

from urllib.parse import quote


def prefix_of(namespace: str, database: str, installation: str) -> str:
    """The prefix of one installation; nothing else on that Redis has it.

    It contains the namespace and the database for people, for Redis' ACL, and because a copy
    of a database under another name has the same installation.
    """
    return f"embed_star:{_part(namespace)}:{_part(database)}:{installation}:"


def cache_prefix_of(namespace: str, database: str, installation: str) -> str:
    """The prefix of cached vectors. The cache may be another Redis, with another user."""
    return f"embed_star:vector:{_part(namespace)}:{_part(database)}:{installation}:"


def celery_prefix_of(prefix: str) -> str:
    """The prefix of Celery's names."""
    return f"{prefix}celery:"


def _part(name: str) -> str:
    return quote(name, safe="")
