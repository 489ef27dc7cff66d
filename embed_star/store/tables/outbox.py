"""The outbox: pending changes in two lanes, read by key range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from embed_star.errors import StoreAuthError, StoreError
from embed_star.models import Key, Lane, OutboxId, Space, is_usable, key_text
from embed_star.store.client.codec import record
from embed_star.store.client.pool import Database
from embed_star.values import RecordID

log = structlog.get_logger(__name__)

TABLE = "embedding_outbox"
_LAST = "~"  # after every ULID
_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Entry(NamedTuple):
    """One record of the outbox. `key` is None when it names no repo with a usable key."""

    id: OutboxId
    key: Key | None
    size: int


class Outbox(Protocol):
    """The outbox. A lane is read in the order of its ULIDs."""

    def page(self, lane: Lane, after: str, rows: int) -> list[Entry]:
        """The next `rows` records of `lane` after the ULID `after` ("" for the first)."""

    def fail_unusable(self, ids: Sequence[OutboxId], space: Space) -> None:
        """Remove records whose repo has no usable key, and save those repos as failed.

        A key that the database itself cannot find again is only logged: server 3 stores one
        with a year beyond 9999, and then fails every query that reads it.
        """

    def announce(self, keys: Sequence[tuple[Key, int]], lane: Lane) -> None:
        """Add a record for each `(key, size in characters)`, as the event does."""

    def present(self, ids: Sequence[OutboxId]) -> set[OutboxId]:
        """Those of `ids` whose records are still there."""

    def counts(self) -> dict[Lane, int]:
        """The number of records in each lane. Reads only keys, but all of them."""

    def is_longer(self, lane: Lane, rows: int) -> bool:
        """Whether `lane` holds more than `rows` records; reads at most one key more."""

    def oldest_at_ms(self, lane: Lane) -> int | None:
        """When the oldest pending record of `lane` was written, ms since 1970, or None."""


class SurrealOutbox:
    """In SurrealDB. Reads go by key range, without a scan or a sort."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, lane: Lane, after: str, rows: int) -> list[Entry]:
        source = self._after()
        bounds = {"lane": int(lane), "after": after, "last": _LAST, "rows": rows}
        try:
            (found,) = self._database.query(
                f"SELECT id, repo, size FROM {source} LIMIT $rows", **bounds
            )
        except StoreAuthError:
            raise
        except StoreError:
            # One key that the database cannot return fails the page: engine 2.3.10 stores a
            # regex in a key, and has no CBOR for it.
            (ids,) = self._database.query(f"SELECT VALUE id FROM {source} LIMIT $rows", **bounds)
            found = self._each([one.id for one in ids])
        return [
            Entry((one["id"].id[0], one["id"].id[1]), _key(one["repo"]), int(one["size"] or 0))
            for one in found
        ]

    def _each(self, ids: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The records `ids`; `repo` is None where the database cannot return it."""
        entries = [record(TABLE, one) for one in ids]
        try:
            (found,) = self._database.query("SELECT id, repo, size FROM $entries", entries=entries)
        except StoreAuthError:
            raise
        except StoreError:
            if len(ids) == 1:
                return [{"id": entries[0], "repo": None, "size": 0}]
            half = len(ids) // 2
            return self._each(ids[:half]) + self._each(ids[half:])
        return list(found)

    def fail_unusable(self, ids: Sequence[OutboxId], space: Space) -> None:
        try:
            self._fail_unusable(ids, space)
        except StoreAuthError:
            raise
        except StoreError as error:
            if len(ids) > 1:
                for one in ids:
                    self.fail_unusable([one], space)
                return
            log.error("key_not_readable", lane=ids[0][0], record=ids[0][1], reason=str(error))
            self._database.query("DELETE $entry RETURN NONE", entry=record(TABLE, list(ids[0])))

    def _fail_unusable(self, ids: Sequence[OutboxId], space: Space) -> None:
        """Do it inside the database: Python cannot hold every key, nor the database return it."""
        if self._database.version >= (3,):
            is_repo, there, failure = (
                "record::tb($repo) = 'repo'",  # --allow-funcs takes no name like type::is_record
                # By range: it finds no key with a set in it otherwise.
                "array::len(SELECT VALUE 1 FROM type::record('repo', $key..=$key)) > 0",
                "type::record('embedding_failure', $key)",
            )
        else:
            is_repo, there, failure = (
                "type::is::record($repo, 'repo')",
                "record::exists($repo)",
                "type::thing('embedding_failure', $key)",
            )
        self._database.query(
            "BEGIN; FOR $entry IN (SELECT id, repo FROM $entries) { LET $repo = $entry.repo;"
            f"IF {is_repo} {{ LET $key = record::id($repo); IF {there} {{"
            f"UPSERT {failure} SET space = $space, reason = 'key_type', text_hash = '', "
            "attempts = (attempts ?? 0) + 1, at = time::now() RETURN NONE } "
            f"ELSE {{ DELETE {failure} RETURN NONE }} }} }};"
            "DELETE $entries RETURN NONE; COMMIT",
            entries=[record(TABLE, list(one)) for one in ids],
            space=space.name,
        )

    def announce(self, keys: Sequence[tuple[Key, int]], lane: Lane) -> None:
        self._database.query(
            "FOR $row IN $rows { CREATE embedding_outbox CONTENT { id: [$lane, rand::ulid()], "
            "repo: $row[0], size: $row[1] } RETURN NONE }",
            rows=[[record("repo", key), size] for key, size in keys],
            lane=int(lane),
        )

    def present(self, ids: Sequence[OutboxId]) -> set[OutboxId]:
        entries = [record(TABLE, list(one)) for one in ids]
        (found,) = self._database.query("SELECT VALUE id FROM $entries", entries=entries)
        return {(one.id[0], one.id[1]) for one in found}

    def counts(self) -> dict[Lane, int]:
        results = self._database.query(
            "".join(
                f"SELECT count() FROM {TABLE}:[{lane:d}, '']..[{lane:d}, '{_LAST}'] GROUP ALL;"
                for lane in Lane
            )
        )
        return {
            lane: int(rows[0]["count"]) if rows else 0
            for lane, rows in zip(Lane, results, strict=True)
        }

    def is_longer(self, lane: Lane, rows: int) -> bool:
        source = self._after()
        (found,) = self._database.query(
            f"SELECT VALUE id FROM {source} LIMIT 1 START $rows",
            lane=int(lane),
            after="",
            last=_LAST,
            rows=rows,
        )
        return bool(found)

    def _after(self) -> str:
        """The source of a SELECT: the records after the ULID $after in $lane."""
        if self._database.version >= (3,):
            # Server 3 reads the other form to its end, whatever the LIMIT: with 100,000
            # pending, a page took 0.3 s, and takes 0.01 s this way.
            return f"type::record('{TABLE}', [$lane, $after]>..[$lane, $last])"
        return f"{TABLE}:[$lane, $after]>..[$lane, $last]"

    def oldest_at_ms(self, lane: Lane) -> int | None:
        first = self.page(lane, "", 1)
        return ulid_ms(first[0].id[1]) if first else None


def _key(repo: Any) -> Key | None:
    if isinstance(repo, RecordID) and repo.table_name == "repo" and is_usable(repo.id):
        return repo.id
    return None


def ulid_ms(ulid: str) -> int:
    """The time of a ULID (its first 48 of 128 bits), in milliseconds since 1970."""
    value = 0
    for digit in ulid[:10]:
        value = value * 32 + _ULID_DIGITS.index(digit)
    return value


def ulid_of_ms(ms: int) -> str:
    """The first 10 characters of every ULID of the millisecond `ms` since 1970."""
    digits = ""
    for _ in range(10):
        ms, digit = divmod(ms, 32)
        digits = _ULID_DIGITS[digit] + digits
    return digits


def group(entries: Sequence[Entry]) -> list[tuple[Key, tuple[OutboxId, ...], int]]:
    """Entries by repo, in the order of each repo's first entry, without unusable keys."""
    ids: dict[str, list[OutboxId]] = {}
    first: dict[str, Entry] = {}
    size: dict[str, int] = {}
    for entry in entries:
        if entry.key is None:
            continue
        text = key_text(entry.key)
        ids.setdefault(text, []).append(entry.id)
        first.setdefault(text, entry)
        size[text] = entry.size
    return [(first[text].key, tuple(ids[text]), size[text]) for text in ids]
