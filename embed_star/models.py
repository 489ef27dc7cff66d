"""Frozen values that the layers hand to each other, and their form in messages.

A message carries ids, hashes and short codes; never a text, a vector or a secret.

It is over 300 lines since each value stands with its form in messages, which must fit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from json.encoder import encode_basestring_ascii
from typing import Any
from uuid import UUID

from embed_star.values import NULL, Null

MAX_HITS = 1000
"""Most answers of one search."""

MOST_PASSAGES = 32
"""Passages of one README that have a vector; the rest is left out. With 256 tokens each, that is
some 4,000 words: nearly every README, and a bound on what one row can cost."""

MESSAGE_VERSION = 1
"""Version of the shape of task messages. A worker requeues a message of another version for
workers that know it, and ignores fields that a later release adds within a version."""


def has_version(message: Any) -> bool:
    """Whether `message` may be one of ours, of whatever version."""
    return isinstance(message, Mapping) and type(message.get("v")) is int


Key = Any
"""The key of a SurrealDB record: int, str, UUID, or a list/dict of those and of bool, float,
None (NONE) and NULL. SurrealDB allows more, which is not usable (`is_usable`)."""

_PARTS_ONLY = (bool, float, type(None), Null)
"""These may be part of a key but not a whole key: server 3 never answers a query for one."""

_KEY_DEPTH = 32
"""The deepest nesting of lists and dicts in a usable key."""

OutboxId = tuple[int, str]
"""`(lane, ulid)`: the key of one record of `embedding_outbox`."""


class Lane(IntEnum):
    """The lanes of the outbox, in the order in which they are served."""

    FRESH = 0
    BACKFILL = 1


def key_to_json(key: Key, depth: int = 0) -> Any:
    """A record key as JSON; `key_from_json` is its inverse. Raises TypeError for a part that
    would come back changed (a datetime, a set, -0.0): see `is_usable`."""
    if key is None or isinstance(key, str) or (isinstance(key, int) and is_int64(key)):
        return key
    if isinstance(key, UUID):
        return {"uuid": str(key)}
    if isinstance(key, Null):
        return {"null": True}
    if isinstance(key, float) and math.isfinite(key) and str(key) != "-0.0":
        return key
    if depth < _KEY_DEPTH:
        if isinstance(key, list | tuple):
            return {"array": [key_to_json(part, depth + 1) for part in key]}
        # Server 3 stores a key with a field named "" and then fails every query that reads it.
        if isinstance(key, Mapping) and "" not in key:
            return {"object": {name: key_to_json(part, depth + 1) for name, part in key.items()}}
    raise TypeError("no message can carry this key")


def key_from_json(value: Any) -> Key:
    """The record key that `key_to_json` wrote. Raises ValueError on any other shape."""
    if not isinstance(value, dict | list):
        return value
    if len(value) == 1:
        match value:
            case {"uuid": str(inner)}:
                return UUID(inner)
            case {"null": True}:
                return NULL
            case {"array": list(inner)}:
                return [key_from_json(part) for part in inner]
            case {"object": dict(inner)}:
                return {name: key_from_json(part) for name, part in inner.items()}
    raise ValueError("not a record key")


def is_int64(number: int) -> bool:
    """Whether SurrealDB can hold `number`. Server 3 never answers a query with a larger one."""
    return -(2**63) <= number < 2**63


def key_text(key: Key) -> str:
    """A record key as one canonical string, equal exactly for equal keys."""
    if isinstance(key, str):
        return encode_basestring_ascii(key)  # what json.dumps does in the end, 20 times faster
    if type(key) is int:
        return str(key)
    return json.dumps(key_to_json(key), sort_keys=True, separators=(",", ":"))


def is_usable(key: Key) -> bool:
    """Whether `key` survives messages, Redis and the database unchanged.

    Keys with a datetime or a set in them, for instance, do not.
    """
    if type(key) in _PARTS_ONLY or (type(key) is int and not is_int64(key)):
        return False
    try:
        key_text(key)
    except TypeError:
        return False
    return True


_IDENTIFIER = re.compile(r"[a-z0-9_]{1,200}")
MAX_DIMENSIONS = 65_535


@dataclass(frozen=True, slots=True)
class Space:
    """Provider, model, dimensions and text template: vectors of one space are comparable.

    Vectors of different spaces are never mixed: each space has a table of its own and
    its name is part of every cache key.
    """

    provider: str
    model: str
    dimensions: int
    text_version: str
    """Hash of the fields, the template version and the length limit."""

    def __post_init__(self) -> None:
        """Raise ValueError unless the name is an identifier.

        Statements contain the table's name as text: SurrealDB takes no parameter there.
        """
        texts = (self.provider, self.model, self.text_version)
        if not all(type(one) is str for one in texts) or type(self.dimensions) is not int:
            raise ValueError("a space is three texts and a whole number")
        names = (self.provider, self.name)
        if not 1 <= self.dimensions <= MAX_DIMENSIONS or not all(map(_IDENTIFIER.fullmatch, names)):
            raise ValueError(
                f"a space has 1 to {MAX_DIMENSIONS} dimensions and a provider of a-z, 0-9 and _"
            )

    @property
    def name(self) -> str:
        """A readable identifier, safe as a table name part: `[a-z0-9_]+`."""
        identity = json.dumps([self.provider, self.model, self.dimensions, self.text_version])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9]+", "_", self.model.lower()).strip("_")[:40]
        return f"{self.provider}_{slug}_{self.dimensions}_{digest}"

    @property
    def table(self) -> str:
        """The table that holds this space's vectors."""
        return f"embedding_{self.name}"

    @property
    def passages_table(self) -> str:
        """The table that holds the vectors of READMEs' passages."""
        return f"{self.table}_passages"


@dataclass(frozen=True, slots=True)
class Pending:
    """One repo with the outbox records that announce it.

    `size` is the length of its text in characters as the database estimated it, at
    least 0; batches are formed by it before any text is loaded.
    """

    key: Key
    outbox: tuple[OutboxId, ...]
    size: int = 0

    def to_json(self) -> list[Any]:
        return [key_to_json(self.key), [list(one) for one in self.outbox]]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Pending:
        key, outbox, *_ = value
        return cls(key_from_json(key), tuple((int(lane), str(ulid)) for lane, ulid in outbox))


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one provider call, as an `embed_batch` message carries them."""

    run_id: str
    """Names one chord. The locks of its rows carry it as their token."""
    correlation_id: str
    space: str
    rows: tuple[Pending, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "v": MESSAGE_VERSION,
            "run_id": self.run_id,
            "correlation_id": self.correlation_id,
            "space": self.space,
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batch:
        """Raises ValueError when the message is of another version or shape."""
        version = value.get("v") if isinstance(value, Mapping) else None
        if version != MESSAGE_VERSION:
            raise ValueError(f"message version {version!r}, expected {MESSAGE_VERSION}")
        try:
            return cls(
                run_id=str(value["run_id"]),
                correlation_id=str(value["correlation_id"]),
                space=str(value["space"]),
                rows=tuple(Pending.from_json(row) for row in value["rows"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not an embed_batch message: {error}") from error


class Status(StrEnum):
    """The result of one row in one run."""

    EMBEDDED = "embedded"  # paid for in this run; the vector is in the cache
    CACHED = "cached"  # the vector was in the cache already
    UNCHANGED = "unchanged"  # the stored vector, or the recorded failure, is of this text
    GONE = "gone"  # the repo was deleted
    FAILED = "failed"  # this row cannot be embedded: `reason` says why
    DEFERRED = "deferred"  # an outage or a limit: the row stays pending
    LOST = "lost"  # another run holds the row


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one row as `embed_batch` reports it; the vector itself is in the cache."""

    row: Pending
    status: Status
    text_hash: str = ""
    """Hash of all that was embedded, by which the row is judged."""
    replaces: bool = False
    """Whether a vector of another text is stored."""
    heals: bool = False
    """Whether a failure of another text or space is recorded."""
    reason: str = ""
    cut: bool = False
    """Whether the text was cut before it was embedded."""
    source: str = ""
    """The server that made the vector, another part of its cache key."""
    name: str = ""
    """The repo's flat name, kept beside the vector."""
    own_hash: str = ""
    """Hash of the row's own text, for a row with a README; else it is `text_hash`."""
    passages: tuple[str, ...] = ()
    """Hashes of the passages of its README that have vectors, in order."""
    old_passages: int = 0
    """How many are stored."""
    left_out: int = 0
    """How many passages cannot be embedded."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """The row's own and its passages'; each, with space and source, is a vector's cache key."""
        return (self.own_hash or self.text_hash, *self.passages)

    def to_json(self) -> list[Any]:
        flags = int(self.replaces) + 2 * int(self.heals) + 4 * int(self.cut)
        of_readme = [self.own_hash, self.old_passages, self.left_out, *self.passages]
        if of_readme == ["", 0, 0]:
            of_readme = []  # as most rows have none
        said = [self.status.value, self.text_hash, flags, self.reason, self.source, self.name]
        return [*self.row.to_json(), *said, of_readme]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Outcome:
        """Raises ValueError when `value` is not an outcome."""
        try:
            key, outbox, status, text_hash, flags, reason, *rest = value
            source, name, of_readme = (*rest, *("", "", ())[len(rest) :])[:3]
            own_hash, old, left_out, *passages = of_readme or ("", 0, 0)
            return cls(
                Pending.from_json((key, outbox)),
                Status(status),
                str(text_hash),
                bool(flags & 1),
                bool(flags & 2),
                str(reason),
                bool(flags & 4),
                str(source),
                str(name),
                own_hash=str(own_hash),
                passages=tuple(map(str, passages)),
                old_passages=int(old),
                left_out=int(left_out),
            )
        except (TypeError, OverflowError) as error:
            raise ValueError(f"not an outcome: {error}") from error
