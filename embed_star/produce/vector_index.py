"""The HNSW index over the vectors: built once the table is large enough for it to pay."""

from __future__ import annotations

from embed_star.store.client.pool import Database
from embed_star.store.tables.vectors import SurrealVectors

MIN_ROWS = 10_000
"""Vectors from which on the index is built: to read fewer one by one takes no longer."""

MIN_VERSION = (3,)
"""SurrealDB 2.x writes ten times slower under the index."""


def build_if_large(
    vectors: SurrealVectors, database: Database, min_rows: int = MIN_ROWS
) -> bool | None:
    """Begin to build the index; whether that was necessary.

    None when the table has fewer rows than `min_rows`, when `min_rows` is 0, or on
    SurrealDB 2.x. Raises StoreUnavailable and StoreError.
    """
    if not min_rows or vectors.count() < min_rows or database.version < MIN_VERSION:
        return None
    return vectors.build_index()
