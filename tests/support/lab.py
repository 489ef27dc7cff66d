"""Handles on running processes: rows go in, quiet is awaited, the promises are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from embed_star.models import Key, Lane
from embed_star.services import Services
from embed_star.settings import Settings
from embed_star.values import RecordID
from tests.support.checker import Checker, Report
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually

QUIET_S = 60.0
"""No quiet within it is a failure, on a busy machine too."""

_INSERT_ROWS = 500


class Lab:
    """One database, as a user of it and as an onlooker."""

    def __init__(
        self,
        settings: Settings,
        provider: ScriptedProvider,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.provider = provider
        self.environment = dict(environment or {})
        """For commands, so that they find the same."""
        self.services = Services(settings)
        self._next_key = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.services.close()

    def query(self, sql: str, **params: Any) -> list[Any]:
        return self.services.store.database.query(sql, **params)

    def insert(self, rows: int, **fields: Any) -> list[int]:
        """So many new rows, each with a text of its own; their keys."""
        keys = self.reserve(rows)
        self.write({key: {**example_row(key), **fields} for key in keys})
        return keys

    def reserve(self, rows: int) -> list[int]:
        """So many keys that `insert` will not take."""
        keys = list(range(self._next_key, self._next_key + rows))
        self._next_key += rows
        return keys

    def write(self, rows: Mapping[Key, Mapping[str, Any]]) -> None:
        """Write new rows with these keys and fields, in bulk."""
        records = [{"id": RecordID("repo", key), **fields} for key, fields in rows.items()]
        for start in range(0, len(records), _INSERT_ROWS):
            page = records[start : start + _INSERT_ROWS]
            self.query("INSERT INTO repo $rows RETURN NONE", rows=page)

    def edit(self, key: Key, **fields: Any) -> None:
        self.query("UPDATE $id MERGE $fields", id=RecordID("repo", key), fields=fields)

    def delete(self, key: Key) -> None:
        self.query("DELETE $id", id=RecordID("repo", key))

    def embedded(self, keys: Iterable[Key]) -> int:
        """How many of `keys` have a vector."""
        ids = [RecordID(self.services.space.table, key) for key in keys]
        (found,) = self.query("SELECT VALUE id FROM $ids", ids=ids)
        return len(found)

    def pending(self, keys: Iterable[Key]) -> int:
        """How many records are pending for `keys`."""
        repos = [RecordID("repo", key) for key in keys]
        (found,) = self.query(
            "SELECT VALUE id FROM embedding_outbox WHERE repo IN $repos", repos=repos
        )
        return len(found)

    def is_quiet(self) -> bool:
        """Whether nothing is pending."""
        return not any(self.services.store.outbox.page(lane, "", 1) for lane in Lane)

    def locks(self) -> int:
        """How many rows are locked, or were and nobody has unlocked them."""
        (found,) = self.query("SELECT count() FROM embedding_lock GROUP ALL")
        return int(found[0]["count"]) if found else 0

    def await_quiet(self, timeout_s: float = QUIET_S) -> None:
        eventually(self.is_quiet, "nothing is pending", timeout_s)

    def await_asked(self, calls: int = 1) -> None:
        """Until so many calls are with the provider at the same time."""
        eventually(
            lambda: self.provider.stats()["concurrent"] >= calls, "the provider is asked", QUIET_S
        )

    def report(self) -> Report:
        """The checker's findings; the ledger is that of this database's model."""
        model = self.settings.model
        ledger = [entry for entry in self.provider.ledger() if entry["model"] == model]
        return Checker(self.services).check(ledger)


def example_readme(*parts: object) -> str:
    """A README with a passage for each of `parts`."""
    said = "A part of a README that is long enough for a passage of its own, and says so"
    sections = []
    for part in parts:
        sentences = [f"{said}, {part} in sentence {n}." for n in range(4)]
        sections.append(f"## Part {part}\n\n{' '.join(sentences)}\n\n")
    return "".join(sections)


def example_row(key: int) -> dict[str, Any]:
    """The fields of a repo, with a text of its own."""
    return {
        "full_name": f"owner{key % 97}/project{key}",
        "description": f"A project about subject {key}, for people who need number {key * 7919}",
        "language": ("Python", "Go", "Rust", "C++")[key % 4],
        "topics": ["topic-a", f"topic-{key % 50}"],
        "stargazers_count": key,
    }
