"""Embedding spaces in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embed_star.errors import ConfigError, SchemaError
from embed_star.models import Space
from embed_star.store.client.codec import record
from embed_star.store.client.functions import check_functions
from embed_star.store.client.pool import Database
from embed_star.store.tables import names
from embed_star.store.tables.event import EVENT, event_sql, is_current
from embed_star.store.tables.passages import has_passages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class KnownSpace:
    """A space with a record in the database."""

    space: Space
    text_fields: Sequence[str]
    active: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model computes a space's vectors, according to the provider's answers."""

    model: str
    """The name in the answers, else the space's own."""
    probe: NDArray[np.float32] | None = None
    """Its vector of our own text, shape (dimensions,); None before that is computed."""


class Spaces:
    """The records of `embedding_space`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure(self, space: Space, text_fields: Sequence[str]) -> bool:
        """Make `space` the active one: its record, vector table and event, in one transaction.

        Returns whether anything changed; a second call changes nothing. Other spaces are
        retired, and their vectors stay. The next reconcile is due at once, and finds the rows
        that changed while another space was active. Raises SchemaError, and changes nothing,
        when the event would not work on this server.
        """
        fields = list(text_fields)
        self.check_server(fields)
        noticed = self.notices_readmes(space, fields)
        if noticed and self.is_active(space) and self.has_names(space):
            return False
        self._database.query(
            "BEGIN;"
            "DEFINE TABLE IF NOT EXISTS repo;"  # it may have been removed since
            f"{_vectors_sql(space)};"
            "UPDATE embedding_space SET state = 'retired' WHERE state = 'active' RETURN NONE;"
            "UPSERT $id MERGE $content RETURN NONE;"
            f"{event_sql(fields)};"
            "DELETE $cursor RETURN NONE;"
            "COMMIT;",
            cursor=record("embedding_cursor", ["reconcile", space.name]),
            id=record("embedding_space", space.name),
            content=_content(space, fields, "active"),
        )
        self._database.query(f"{names.index_sql(space.table)}")
        return True

    def has_current_event(self, text_fields: Sequence[str]) -> bool:
        """Whether the event on `repo` is what this version defines; an older one may cost more."""
        return is_current(self._event(), text_fields)

    def renew_event(self, fields: Sequence[str]) -> None:
        """Define the event on `repo` anew, over an older one. No row is announced by that."""
        self._database.query(f"{event_sql(fields)}")

    def check_server(self, text_fields: Sequence[str]) -> None:
        """Raise SchemaError, saying what to do, if the event on `repo` would fail or never fire."""
        check_functions(self._database, event_sql(text_fields))
        (info,) = self._database.query("INFO FOR DB STRUCTURE")
        repo: Mapping[str, Any] = next((t for t in info["tables"] if t["name"] == "repo"), {})
        if repo.get("view"):
            raise SchemaError(
                "the table repo is a view (DEFINE TABLE repo AS SELECT), and SurrealDB 3 fires no "
                "event for what a view computes, so none of its rows would be embedded: make repo "
                "a table that is written to, for instance by an event on the table behind the view"
            )
        if repo.get("drop"):
            raise SchemaError(
                "the table repo is defined with DROP, so SurrealDB keeps none of its rows and "
                "there is nothing to embed: define it without DROP"
            )

    def known(self) -> list[KnownSpace]:
        """Every space with a record, active or retired.

        Raises SchemaError for a record that describes no space: its table's name could be
        anything.
        """
        (rows,) = self._database.query("SELECT * FROM embedding_space")
        return [_known(row) for row in rows]

    def retired(self) -> list[Space]:
        """The retired spaces that still have a table, sorted by name."""
        tables = self._tables()
        spaces = [one.space for one in self.known() if not one.active]
        return sorted((one for one in spaces if one.table in tables), key=_name)

    def count(self, space: Space) -> int:
        """The number of vectors of `space`. Reads only keys, but all of them."""
        if space.table not in self._tables():
            return 0
        (rows,) = self._database.query(f"SELECT count() FROM {space.table} GROUP ALL")
        return int(rows[0]["count"]) if rows else 0

    def drop(self, name: str) -> None:
        """Remove a retired space: its vectors, failures, checkpoint and record, or nothing.

        Raises ConfigError when no space has that name, or it is the active one.
        """
        known = {one.space.name: one for one in self.known()}
        if name not in known:
            raise ConfigError(f"there is no space {name}: `embed-star space list` names them")
        if known[name].active:
            raise ConfigError(
                f"{name} is the active space: `embed-star migrate` with other settings makes "
                "another one active, and this one can be dropped then"
            )
        space = known[name].space
        self._database.query(
            "BEGIN;"
            "IF (SELECT VALUE state FROM $id) != ['retired'] { THROW 'the space is in use again' };"
            f"REMOVE TABLE IF EXISTS {space.table};"
            f"REMOVE TABLE IF EXISTS {space.passages_table};"
            "DELETE embedding_failure WHERE space = $name RETURN NONE;"
            "DELETE $cursor RETURN NONE;"
            "DELETE $id RETURN NONE;"
            "COMMIT",
            id=record("embedding_space", name),
            cursor=record("embedding_cursor", ["reconcile", name]),
            name=name,
        )

    def add_retired(self, space: Space, text_fields: Sequence[str]) -> None:
        """Create the record and the table of `space`, retired. A known space stays as it is."""
        (there,) = self._database.query(
            "SELECT VALUE id FROM $id", id=record("embedding_space", space.name)
        )
        if there:
            return
        self._database.query(
            f"BEGIN;{_vectors_sql(space)};UPSERT $id MERGE $content RETURN NONE;COMMIT;",
            id=record("embedding_space", space.name),
            content=_content(space, text_fields, "retired"),
        )

    def identity(self, space: Space) -> Identity | None:
        """The saved identity of the model of `space`; None when there is none."""
        (rows,) = self._database.query(
            "SELECT answered_model, probe FROM $id", id=record("embedding_space", space.name)
        )
        found = rows[0] if rows else {}
        model, raw = found.get("answered_model"), found.get("probe")
        if not isinstance(model, str) or not model:
            return None
        if not isinstance(raw, bytes) or len(raw) != 4 * space.dimensions:
            return Identity(model)
        import numpy as np  # here, as only workers compare it

        return Identity(model, np.frombuffer(raw, dtype="<f4").astype(np.float32))

    def record_identity(self, space: Space, identity: Identity) -> None:
        """Save the identity of a space that exists, over the old one.

        An identity without a probe is saved only if there is none.
        """
        probe = None if identity.probe is None else identity.probe.astype("<f4").tobytes()
        self._database.query(
            "UPDATE $id SET answered_model = $model, probe = $probe "
            "WHERE $probe != NONE OR answered_model = NONE RETURN NONE",
            id=record("embedding_space", space.name),
            model=identity.model,
            probe=probe,
        )

    def state(self, space: Space) -> str | None:
        """`active` or `retired`; None when there is no record of it."""
        (states,) = self._database.query(
            "SELECT VALUE state FROM $id", id=record("embedding_space", space.name)
        )
        return states[0] if states else None

    def is_active(self, space: Space) -> bool:
        """Whether `space` is the active one."""
        active = self._active()
        return active is not None and active.space == space

    def check(self, space: Space) -> None:
        """Raise SchemaError, saying what to do, unless `space` is the active one."""
        active = self._active()
        if active is None:
            raise SchemaError("the database has no embedding space: run `embed-star migrate`")
        if active.space != space:
            raise SchemaError(
                f"the database is embedded with {active.space.provider} {active.space.model} "
                f"({active.space.dimensions} dimensions, fields {','.join(active.text_fields)}) "
                "and the settings say otherwise: set EMBEDDING_* and TEXT_FIELDS to that, or run "
                "`embed-star migrate` to embed every repo anew"
            )
        self.check_server(active.text_fields)
        if not self._has_event(active.text_fields):
            raise SchemaError(
                "the event on the table repo is gone, or an older one, so changes are not "
                "announced: run `embed-star migrate`"
            )
        if not self.has_passages(space):
            raise SchemaError("there is no table of passages: run `embed-star migrate`")
        if not self.has_names(space):
            raise SchemaError(
                "the table of vectors has no index of names: run `embed-star migrate`"
            )

    def has_names(self, space: Space) -> bool:
        """Whether the vectors of `space`, which has a table, have names with an index."""
        (info,) = self._database.query(f"INFO FOR TABLE {space.table}")
        return names.INDEX in info["indexes"] and not info["fields"]

    def has_passages(self, space: Space) -> bool:
        """Whether `space` has a table of passages, and with it one of vectors."""
        return space.passages_table in self._tables()

    def notices_readmes(self, space: Space, text_fields: Sequence[str]) -> bool:
        """Whether `space` has a table of passages, and the event is of today's form."""
        return self.has_passages(space) and self._has_event(text_fields)

    def with_passages(self) -> list[Space]:
        """The spaces, active or retired, that have a table of passages."""
        tables = self._tables()
        return [one.space for one in self.known() if one.space.passages_table in tables]

    def _tables(self) -> Mapping[str, Any]:
        (info,) = self._database.query("INFO FOR DB")
        tables: Mapping[str, Any] = info["tables"]
        return tables

    def _event(self) -> str:
        (info,) = self._database.query("INFO FOR TABLE repo")
        return str(info["events"].get(EVENT, ""))

    def _has_event(self, text_fields: Sequence[str]) -> bool:
        event = self._event()
        return bool(event) and (not has_passages(text_fields) or "$after.readme" in event)

    def _active(self) -> KnownSpace | None:
        (rows,) = self._database.query("SELECT * FROM embedding_space WHERE state = 'active'")
        return _known(rows[0]) if rows else None


def _vectors_sql(space: Space) -> str:
    """Makes the vector table of a space, unless it is there."""
    return (
        f"DEFINE TABLE IF NOT EXISTS {space.table} SCHEMALESS PERMISSIONS NONE;"
        f"DEFINE TABLE IF NOT EXISTS {space.passages_table} SCHEMALESS PERMISSIONS NONE;"
        f"REMOVE FIELD IF EXISTS name ON {space.table}"  # computed by the database before
    )


def _name(space: Space) -> str:
    return space.name


def _known(row: Mapping[str, Any]) -> KnownSpace:
    try:
        space = Space(row["provider"], row["model"], row["dimensions"], row["text_version"])
        if row["id"].id != space.name:
            raise ValueError("its id is not its name")
        fields = [str(one) for one in row["text_fields"]]
    except (KeyError, TypeError, ValueError):
        raise SchemaError(
            f"the record {row['id']} describes no embedding space, and none of embed_star's "
            "commands wrote it: delete it"
        ) from None
    return KnownSpace(space, fields, row.get("state") == "active")


def _content(space: Space, text_fields: Sequence[str], state: str) -> dict[str, Any]:
    return {
        "provider": space.provider,
        "model": space.model,
        "dimensions": space.dimensions,
        "text_version": space.text_version,
        "text_fields": list(text_fields),
        "table": space.table,
        "state": state,
    }
