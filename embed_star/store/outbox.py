"""The outbox: what is pending, in two lanes, read by key range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from surrealdb.data.types.record_id import RecordID

from embed_star.models import Key, Lane, OutboxId, Space, is_usable, key_text
from embed_star.store.codec import record
from embed_star.store.pool import Database

TABLE = "embedding_outbox"
_LAST = "~"  # after every ULID
_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Entry(NamedTuple):
    """One record of the outbox. `key` is None when no repo can be made out from it."""

    id: OutboxId
    key: Key | None
    size: int


class Outbox:
    """Reads by key range: no scan of the table, no sort, whatever its length."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, lane: Lane, after: str, rows: int) -> list[Entry]:
        """The next `rows` records of `lane` after the ULID `after` ("" for the first)."""
        source = self._after()
        (found,) = self._database.query(
            f"SELECT id, repo, size FROM {source} LIMIT $rows",
            lane=int(lane),
            after=after,
            last=_LAST,
            rows=rows,
        )
        return [
            Entry((one["id"].id[0], one["id"].id[1]), _key(one["repo"]), int(one["size"] or 0))
            for one in found
        ]

    def set_aside(self, ids: Sequence[OutboxId], space: Space) -> None:
        """Take records out whose repo has no usable key; the repos are noted as failed."""
        make = "type::record" if self._database.version >= (3,) else "type::thing"
        entries = [record(TABLE, list(one)) for one in ids]
        (found,) = self._database.query("SELECT id, repo FROM $entries", entries=entries)
        # The key itself stays in the database: here it may have lost its nanoseconds.
        self._database.query(
            "BEGIN; FOR $entry IN $of_repos { LET $repo = $entry.repo; IF record::exists($repo) {"
            f"UPSERT {make}('embedding_failure', record::id($repo)) SET space = $space, "
            "reason = 'key_type', text_hash = '', attempts = (attempts ?? 0) + 1, "
            "at = time::now() RETURN NONE } };"
            "DELETE $entries RETURN NONE; COMMIT",
            of_repos=[one["id"] for one in found if isinstance(one["repo"], RecordID)],
            entries=entries,
            space=space.name,
        )

    def announce(self, keys: Sequence[tuple[Key, int]], lane: Lane) -> None:
        """Add a record for each `(key, size in characters)`, as the event would."""
        self._database.query(
            "FOR $row IN $rows { CREATE embedding_outbox CONTENT { id: [$lane, rand::ulid()], "
            "repo: $row[0], size: $row[1] } RETURN NONE }",
            rows=[[record("repo", key), size] for key, size in keys],
            lane=int(lane),
        )

    def counts(self) -> dict[Lane, int]:
        """Records pending in each lane. Reads keys only, but all of them."""
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
        """Whether `lane` holds more than `rows` records; reads no more keys than that."""
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
        """The source of a SELECT: what comes after the ULID $after in $lane."""
        if self._database.version >= (3,):
            # The other form is read to its end there, whatever the LIMIT: with 100,000
            # pending, a page took 0.3 s, and takes 0.01 s this way.
            return f"type::record('{TABLE}', [$lane, $after]>..[$lane, $last])"
        return f"{TABLE}:[$lane, $after]>..[$lane, $last]"

    def oldest_at_ms(self, lane: Lane) -> int | None:
        """When the oldest pending record of `lane` was written, ms since 1970, or None."""
        first = self.page(lane, "", 1)
        return ulid_ms(first[0].id[1]) if first else None


def _key(repo: Any) -> Key | None:
    if isinstance(repo, RecordID) and repo.table_name == "repo" and is_usable(repo.id):
        return repo.id
    return None


def ulid_ms(ulid: str) -> int:
    """The time within a ULID, in milliseconds since 1970 (first 48 bits of 128)."""
    value = 0
    for digit in ulid[:10]:
        value = value * 32 + _ULID_DIGITS.index(digit)
    return value


def ulid_of_ms(ms: int) -> str:
    """The beginning of every ULID of the millisecond `ms` since 1970: 10 characters."""
    digits = ""
    for _ in range(10):
        ms, digit = divmod(ms, 32)
        digits = _ULID_DIGITS[digit] + digits
    return digits


def group(entries: Sequence[Entry]) -> list[tuple[Key, tuple[OutboxId, ...], int]]:
    """Entries gathered by repo, in the order of each repo's first entry; without unusable keys."""
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
