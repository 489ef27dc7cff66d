"""CBOR as SurrealDB speaks it, over the fast `cbor2`.

The SDK's encoder is pure Python: 144 µs for a vector of 768, against 12 µs for the
bytes that `VectorBytes` builds with numpy. Its value types would do, but whatever is imported
of it brings aiohttp and requests along: a quarter of a process' start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import cbor2

from embed_star.errors import StoreError
from embed_star.models import Key
from embed_star.values import (
    DATETIME,
    DURATION,
    EXCLUDED,
    NULL,
    RANGE,
    NotANumber,
    Null,
    Opaque,
    RecordID,
    Table,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Those of SurrealDB's CBOR tags that become a value of Python, beside those of `values`.
_NONE, _TABLE, _RECORD_ID, _UUID = 6, 7, 8, 9

_FLOAT32 = 0xFA  # CBOR's initial byte of a float32
_ARRAY16 = 0x99  # CBOR's initial byte of an array with a 16-bit length


record = RecordID
"""In the parameters of queries it reads better: `record(table, key)`."""

_NULL = cbor2.CBORSimpleValue(22)  # an open bound; None would be sent as NONE


@dataclass(frozen=True, slots=True)
class KeysAfter:
    """The records of `table` with keys after `key`, as a value for a query's parameter."""

    table: str
    key: Any


class VectorBytes:
    """A vector encoded as a CBOR array of float32, to be copied into a frame."""

    __slots__ = ("raw",)

    def __init__(self, vector: NDArray[np.float32]) -> None:
        """`vector` has shape (dimensions,), at most 65,535 of them."""
        import numpy as np  # here, as only workers write vectors

        count = vector.shape[0]
        items = np.empty((count, 5), dtype=np.uint8)
        items[:, 0] = _FLOAT32
        items[:, 1:] = vector.astype(">f4").view(np.uint8).reshape(count, 4)
        self.raw = bytes((_ARRAY16, *count.to_bytes(2, "big"))) + items.tobytes()


def _encode_other(encoder: cbor2.CBOREncoder, value: Any) -> None:
    if isinstance(value, Opaque):
        encoder.encode(cbor2.CBORTag(value.tag, value.value))
    elif isinstance(value, RecordID):
        encoder.encode(cbor2.CBORTag(_RECORD_ID, [value.table_name, value.id]))
    elif isinstance(value, VectorBytes):
        encoder.write(value.raw)
    elif isinstance(value, Table):
        encoder.encode(cbor2.CBORTag(_TABLE, value.table_name))
    elif isinstance(value, timedelta):
        nanoseconds = round(value / timedelta(microseconds=1)) * 1000
        parts = list(divmod(nanoseconds, 1_000_000_000))
        encoder.encode(cbor2.CBORTag(DURATION, parts))
    elif isinstance(value, KeysAfter):
        bounds = [cbor2.CBORTag(EXCLUDED, value.key), _NULL]
        key_range = cbor2.CBORTag(RANGE, bounds)
        encoder.encode(cbor2.CBORTag(_RECORD_ID, [value.table, key_range]))
    else:
        raise TypeError(f"a {type(value).__name__} cannot be sent to SurrealDB")


def _encode_none(encoder: cbor2.CBOREncoder, _: None) -> None:
    # SurrealDB tells NONE (no value) from NULL; Python's None means the former, as in
    # the SDK: a schema of the user's with option<…> fields refuses NULL.
    encoder.encode(cbor2.CBORTag(_NONE, 0))


def _encode_datetime(encoder: cbor2.CBOREncoder, value: datetime) -> None:
    since = value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    seconds, rest = divmod(since, timedelta(seconds=1))
    nanoseconds = rest // timedelta(microseconds=1) * 1000
    encoder.encode(cbor2.CBORTag(DATETIME, [seconds, nanoseconds]))


def _write(encoder: cbor2.CBOREncoder, raw: bytes) -> None:
    encoder.write(raw)


_ENCODERS: dict[Any, Callable[[cbor2.CBOREncoder, Any], None]] = {
    type(None): _encode_none,
    NotANumber: lambda encoder, value: _write(encoder, b"\xfb" + struct.pack(">d", value)),
    Null: lambda encoder, _: encoder.encode_simple_value(_NULL),
    datetime: _encode_datetime,
}


def _decode_datetime(value: Any) -> datetime:
    return datetime.fromtimestamp(value[0], UTC) + timedelta(microseconds=value[1] // 1000)


def _decode_duration(value: Any) -> timedelta:
    seconds, nanoseconds = (*value, 0, 0)[:2]
    return timedelta(seconds=seconds, microseconds=nanoseconds // 1000)


_DECODERS: dict[int, Callable[[Any], Any]] = {
    _TABLE: Table,
    _UUID: UUID,
    DATETIME: _decode_datetime,
    DURATION: _decode_duration,
}
_LOSSY = frozenset({DATETIME, DURATION})
"""Tags that lose nanoseconds in Python. Inside a key they stay `Opaque`, so that the key stays
the same."""

_SIMPLE = frozenset({str, int})
_NOTHING = Opaque(_NONE, 0)
"""Stands for NONE inside a tagged value until `_part` replaces it: cbor2 makes None of NULL."""


def decode_tag(tag: cbor2.CBORTag, inside: bool) -> Any:
    """The value of one of SurrealDB's tags: the `tag_hook` of a decoder. Never raises.

    `inside` is cbor2's `immutable`: whether the value is part of a tagged one, such as a key.
    """
    number = tag.tag
    if number == _NONE:
        return _NOTHING if inside else None
    try:
        if number == _RECORD_ID:
            table, key = tag.value
            return RecordID(table, key if type(key) in _SIMPLE else _part(key))
        if number in _DECODERS and not (inside and number in _LOSSY):
            return _DECODERS[number](tag.value)
    except Exception:  # noqa: BLE001 - a far year, or whatever a newer server has there
        return Opaque(number, _part(tag.value))
    return Opaque(number, _part(tag.value))


def _part(value: Any) -> Any:
    """The inner value of a tagged one, with NONE as None and NULL as NULL."""
    if type(value) in _SIMPLE:
        return value
    if value is None:
        return NULL
    if value != value:
        return NotANumber(value)
    if value is _NOTHING:
        return None
    if isinstance(value, list | tuple):
        for part in value:
            if type(part) not in _SIMPLE:
                return tuple(map(_part, value))
        return value
    if isinstance(value, Mapping):
        return {name: _part(part) for name, part in value.items()}
    return value


def _opaque(number: int) -> Callable[[Any, bool], Opaque]:
    return lambda value, _inside: Opaque(number, _part(value))


_FOREIGN = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 100, 256, 258, 260, 261, 1004, 43000)
"""Tags that cbor2 would decode itself, into types that no code here expects, or refuse."""

OPAQUE_TAGS = {number: _opaque(number) for number in _FOREIGN}
"""For the argument `semantic_decoders` of a decoder."""


def encode(value: Any) -> bytes:
    """One frame. Raises TypeError for a value that has no type in SurrealDB."""
    return cbor2.dumps(value, default=_encode_other, encoders=_ENCODERS)


def decode(frame: bytes) -> Any:
    """The value of a frame.

    Records become `RecordID`. NONE and NULL become None, but NULL inside a key `values.NULL`.
    Values that Python cannot hold become `values.Opaque`. Raises StoreError for invalid CBOR.
    """
    try:
        return cbor2.loads(frame, tag_hook=decode_tag, semantic_decoders=OPAQUE_TAGS)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(
            f"SurrealDB sent an answer that cannot be read ({type(error).__name__})"
        ) from error


def encode_key(key: Key) -> bytes:
    """A record's key of any type as bytes for `decode_key`. Equal keys have equal bytes."""
    return encode(record("", key))


def decode_key(encoded: bytes) -> Key:
    """The key that `encode_key` encoded. Raises StoreError for other bytes."""
    decoded = decode(encoded)
    if not isinstance(decoded, RecordID):
        raise StoreError("not a record's key")
    return decoded.id
