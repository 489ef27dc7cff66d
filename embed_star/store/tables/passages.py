"""Passages: vectors of a README's parts, in a table beside the vector table of each space.

A row's passages are written with its own vector, in one transaction under one fence, and its
record there says how many they are. So that one hash says whether all of them are current.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, Space, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.store.tables.vectors import build_index, has_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

README = "readme"
"""The field of `repo` that becomes passages."""


def has_passages(text_fields: Sequence[str]) -> bool:
    """Whether READMEs become passages: not where TEXT_FIELDS makes them part of the text."""
    return README not in text_fields


def announced_fields(text_fields: Sequence[str]) -> list[str]:
    """The fields of `repo` whose change is announced."""
    return [*text_fields, README] if has_passages(text_fields) else list(text_fields)


@dataclass(frozen=True, slots=True)
class ReadmeState:
    """A row's README, and the vectors that are stored of the row."""

    readme: str | None
    """None: the database cannot give it out."""
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """The row's own and its passages', by the hashes of their texts."""


class Passages(Protocol):
    """The passages of one space."""

    def load(self, rows: Sequence[tuple[Key, int]]) -> list[ReadmeState]:
        """The state of each of `rows`, which are keys with their numbers of stored passages."""

    def count(self) -> int:
        """The number of passages. Reads only keys, but all of them."""


class SurrealPassages:
    """In SurrealDB."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._space = space
        self._table = space.passages_table  # [a-z0-9_], as every Space sees to

    def load(self, rows: Sequence[tuple[Key, int]]) -> list[ReadmeState]:
        import numpy as np  # here, as only workers load vectors

        vectors, passages = self._database.query(
            "SELECT id, own_hash ?? text_hash AS h, vector AS v FROM $vectors;"
            "SELECT id, text_hash AS h, vector AS v FROM $passages",
            vectors=[record(self._space.table, key) for key, _ in rows],
            passages=[record(self._table, [key, n]) for key, most in rows for n in range(most)],
        )
        stored: dict[str, dict[str, NDArray[np.float32]]] = {}
        for one in vectors:
            stored[key_text(one["id"].id)] = {str(one["h"]): np.asarray(one["v"], dtype=np.float32)}
        for one in passages:
            of_row = stored.setdefault(key_text(one["id"].id[0]), {})
            of_row[str(one["h"])] = np.asarray(one["v"], dtype=np.float32)
        # Last: a change between the reads is then seen, not missed.
        readmes = self._readmes([key for key, _ in rows])
        texts = [key_text(key) for key, _ in rows]
        return [ReadmeState(readmes.get(one, ""), stored.get(one, {})) for one in texts]

    def count(self) -> int:
        (rows,) = self._database.query(f"SELECT count() FROM {self._table} GROUP ALL")
        return int(rows[0]["count"]) if rows else 0

    def has_index(self) -> bool:
        """Whether the HNSW index exists, built or not."""
        return has_index(self._database, self._table)

    def build_index(self) -> bool:
        """Begin to build the HNSW index in the background; False when it exists."""
        return build_index(self._database, self._table, self._space.dimensions)

    def _readmes(self, keys: Sequence[Key]) -> dict[str, str | None]:
        """The READMEs by `key_text`; of a row without one, nothing."""
        try:
            (found,) = self._database.query(
                "SELECT id, readme AS r FROM $repos", repos=[record("repo", key) for key in keys]
            )
        except StoreAuthError:
            raise
        except StoreError:
            # One that cannot be read fails the whole statement.
            if len(keys) == 1:
                return {key_text(keys[0]): None}
            half = len(keys) // 2
            return self._readmes(keys[:half]) | self._readmes(keys[half:])
        return {key_text(one["id"].id): _text(one.get("r")) for one in found}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
