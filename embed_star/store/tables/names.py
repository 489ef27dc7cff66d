"""Names in a vector table: each vector has its repo's name, flat, in an indexed field.

Who writes a vector computes it. In the database, as a field's VALUE, it costs as much as the
rest of a bulk write.
"""

from __future__ import annotations

INDEX = "embedding_name"

MAX_LENGTH = 200
"""Characters of a flat name that are kept. GitHub's have at most 100."""


def index_sql(table: str) -> str:
    """Defines the index. It is built in the background, however many vectors there are."""
    return f"DEFINE INDEX IF NOT EXISTS {INDEX} ON {table} FIELDS name CONCURRENTLY"


def flat(text: str) -> str:
    """`text` in lower case with nothing but letters and digits, of any script."""
    return "".join(character for character in text.lower() if character.isalnum())


def flat_name(full_name: object) -> str:
    """The flat name of a repo, without its owner, as the field has it."""
    return flat(str(full_name or "").rpartition("/")[2])[:MAX_LENGTH]
