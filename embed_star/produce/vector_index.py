"""The HNSW index over vectors: built once their table is large enough for it to pay."""

from __future__ import annotations

from typing import Protocol

from embed_star.models import Lane
from embed_star.store.client.pool import Database
from embed_star.store.tables.outbox import Outbox

MIN_ROWS = 10_000
"""Vectors from which on the index is built: to read fewer one by one takes a second at most."""

MIN_VERSION = (3,)
"""SurrealDB 2.x writes ten times slower under the index."""

PENDING_ROWS = 500
"""With more pending rows in a lane, the vectors are still being written, and the index waits:
the database would build it at the cost of the writes."""

WAITED_ROWS = 20 * MIN_ROWS
"""Vectors from which on it waits no longer: a backlog may never end."""


class Indexed(Protocol):
    """A table of vectors: `SurrealVectors` or `SurrealPassages`."""

    def has_index(self) -> bool:
        """Whether the index exists, built or not."""

    def count(self) -> int:
        """The number of vectors."""

    def build_index(self) -> bool:
        """Begin to build the index; False when it exists."""


def build_if_due(
    vectors: Indexed, outbox: Outbox, database: Database, min_rows: int = MIN_ROWS
) -> bool:
    """Begin to build the index if it is missing and pays; whether it was begun.

    It pays from `min_rows` vectors on, on SurrealDB 3, once the backlog is done. Where the index
    exists this costs one query. Raises StoreUnavailable and StoreError.
    """
    if database.version < MIN_VERSION or vectors.has_index():
        return False
    rows = vectors.count()
    if rows < min_rows:
        return False
    if rows < WAITED_ROWS and any(outbox.is_longer(lane, PENDING_ROWS) for lane in Lane):
        return False
    return vectors.build_index()
