"""Names in a vector table: each vector has its repo's name, flat, in an indexed field.

The database computes the field whenever a vector is written, whoever writes it.
"""

from __future__ import annotations

FIELD = "name"
INDEX = "embedding_name"

NAME = (
    "string::replace(string::lowercase(<string>(repo.full_name ?? '')), "
    r"/^.*\/|[^\p{L}\p{N}]+/, '')"
)
"""`flat_name` in SurrealQL. It must never fail, since it would fail the write of a vector."""


def field_sql(table: str) -> str:
    """Defines the field. An older vector has no name until `Vectors.refresh_names`."""
    return f"DEFINE FIELD IF NOT EXISTS name ON {table} VALUE {NAME}"


def index_sql(table: str) -> str:
    """Defines the index. It is built in the background, however many vectors there are."""
    return f"DEFINE INDEX IF NOT EXISTS {INDEX} ON {table} FIELDS name CONCURRENTLY"


def flat(text: str) -> str:
    """`text` in lower case with nothing but letters and digits, of any script."""
    return "".join(character for character in text.lower() if character.isalnum())


def flat_name(full_name: object) -> str:
    """The flat name of a repo, without its owner, as the field has it."""
    return flat(str(full_name or "").rpartition("/")[2])
