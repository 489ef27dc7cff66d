"""Values of SurrealDB that Python has no type for, and values printed as SurrealDB does.

It is over 300 lines since each type comes with how it is printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID


@dataclass(slots=True)
class RecordID:
    """A record's id: its table, and its key of any type. As in SurrealDB, keys may be lists."""

    table_name: str
    id: Any

    def __str__(self) -> str:
        return printed(self)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a value, which no text can stand for in a query."""

    table_name: str

    def __str__(self) -> str:
        return printed(self)


@dataclass(frozen=True, slots=True)
class Null:
    """SurrealDB's NULL, where it must differ from NONE: inside keys and `Opaque`s.

    There, Python's None is NONE. Anywhere else None stands for both.
    """

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = Null()


class NotANumber(float):
    """NaN inside a key. It keeps its sign, by which SurrealDB 2 sorts; cbor2 would drop it."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A CBOR tag with its value, for a value that no type of Python can hold.

    `store/client/codec.py` encodes it as it was decoded. `str()` gives the text of SurrealDB.
    """

    tag: int
    value: Any

    def __hash__(self) -> int:
        return hash((self.tag, printed(self)))

    def __str__(self) -> str:
        return printed(self)


# SurrealDB's CBOR tags, as of 3.3; 15 is of 2.x.
DECIMAL = 10
DATETIME = 12
DURATION = 14
FUTURE = 15
RANGE, INCLUDED, EXCLUDED = 49, 50, 51
FILE = 55
SET = 56
POINT = 88
GEOMETRIES = {
    89: "LineString",
    90: "Polygon",
    91: "MultiPoint",
    92: "MultiLineString",
    93: "MultiPolygon",
}
COLLECTION = 94


def spoken(value: Any) -> str:
    """`value` as SurrealDB's `<string>` gives it, but numbers without suffix: 1.5, not 1.5f."""
    if isinstance(value, Opaque):
        if value.tag == DECIMAL:
            return str(value.value)
        shown = printed(value)
        return shown[2:-1] if value.tag == DATETIME and shown.startswith("d'") else shown
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return printed(value)
    if isinstance(value, RecordID | Table | list | tuple | Mapping):
        return printed(value)
    return str(value)


def printed(value: Any) -> str:
    """`value` as SurrealDB 3 prints it inside an array: `'text'`, `1.5f`, `{1, 2}`, `repo:x`.

    Never fails: a value of an unknown shape is printed by its parts.
    """
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    return str(value)


def _opaque(value: Opaque) -> str:
    try:
        return _tagged(value.tag, value.value)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError):
        return printed(value.value)


def _tagged(tag: int, value: Any) -> str:
    form = _TAGGED.get(tag)
    if form is not None:
        return form(value)
    if tag in GEOMETRIES:
        return f"{{ type: '{GEOMETRIES[tag]}', coordinates: {_coordinates(value)} }}"
    return printed(value)


def _range(value: Any) -> str:
    begin, end = value
    return f"{_bound(begin)}..{_bound(end, last=True)}"


def _collection(value: Iterable[Any]) -> str:
    shapes = ", ".join(map(printed, value))
    return f"{{ type: 'GeometryCollection', geometries: [{shapes}] }}"


def _bound(value: Any, *, last: bool = False) -> str:
    if not isinstance(value, Opaque):
        return ""
    shown = printed(value.value)
    if last:
        return f"={shown}" if value.tag == INCLUDED else shown
    return f"{shown}>" if value.tag == EXCLUDED else shown


def _set(values: Iterable[Any]) -> str:
    shown = list(map(printed, values))
    return f"{{{shown[0]},}}" if len(shown) == 1 else f"{{{', '.join(shown) or ','}}}"


def _coordinates(shape: Any) -> str:
    if isinstance(shape, Opaque):
        return _coordinates(shape.value)
    parts = (_coordinates(x) if isinstance(x, Opaque | tuple) else _number(x) for x in shape)
    return f"[{', '.join(parts)}]"


def _number(value: float | Decimal | Opaque) -> str:
    if isinstance(value, Opaque):  # a decimal
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    plain = format(Decimal(repr(value) if isinstance(value, float) else value), "f")
    return plain.removesuffix(".0")


_TAGGED: dict[int, Callable[[Any], str]] = {
    DECIMAL: lambda value: f"{value}dec",
    DATETIME: lambda value: f"d'{_instant(*value)}'",
    DURATION: lambda value: _duration(*value),
    FUTURE: lambda value: f"<future> {{ {value} }}",
    RANGE: _range,
    FILE: lambda value: f'f"{value[0]}:{value[1]}"',
    SET: _set,
    POINT: lambda value: f"({', '.join(map(_number, value))})",
    COLLECTION: _collection,
}

_CYCLE_DAYS = 146_097
"""Days of 400 years, after which the calendar repeats."""


def _instant(seconds: int, nanoseconds: int = 0) -> str:
    """As in RFC 3339, with a sign before years that do not have four digits."""
    anchor = datetime(2000, 1, 1, tzinfo=UTC)
    since = seconds - int(anchor.timestamp())
    cycles, rest = divmod(since, _CYCLE_DAYS * 86400)
    moment = anchor + timedelta(seconds=rest)
    year = moment.year + 400 * cycles
    shown_year = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return f"{shown_year}-{moment:%m-%dT%H:%M:%S}{_fraction(nanoseconds)}Z"


def _fraction(nanoseconds: int) -> str:
    if not nanoseconds:
        return ""
    digits = f"{nanoseconds:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"


_UNITS_S = (("y", 365 * 86400), ("w", 7 * 86400), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_UNITS_NS = (("ms", 1_000_000), ("µs", 1000), ("ns", 1))


def _duration(seconds: int = 0, nanoseconds: int = 0) -> str:
    shown = ""
    for whole, units in ((seconds, _UNITS_S), (nanoseconds, _UNITS_NS)):
        rest = whole
        for unit, size in units:
            count, rest = divmod(rest, size)
            shown += f"{count}{unit}" if count else ""
    return shown or "0ns"


_PLAIN_KEY = re.compile(r"(?!\d+\Z)[A-Za-z0-9_]+")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _quoted(text: str, quote: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    for character, code in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        escaped = escaped.replace(character, code)
    return f"{quote}{escaped}{quote}"


def _string(value: str) -> str:
    return _quoted(value, '"' if "'" in value else "'")


def _name(value: str, plain: re.Pattern[str], quote: str) -> str:
    return value if plain.fullmatch(value) else _quoted(value, quote)


def _object(value: Mapping[str, Any]) -> str:
    fields = (f"{_name(str(k), _PLAIN_NAME, chr(34))}: {printed(v)}" for k, v in value.items())
    return f"{{ {', '.join(fields)} }}"


def _record(value: RecordID) -> str:
    table, key = value.table_name, value.id
    shown = _name(key, _PLAIN_KEY, "`") if isinstance(key, str) else printed(key)
    return f"{_name(str(table), _PLAIN_NAME, '`')}:{shown}"


_SECOND = timedelta(seconds=1)


def _timedelta(value: timedelta) -> str:
    seconds, rest = divmod(value, _SECOND)
    return _duration(seconds, rest // timedelta(microseconds=1) * 1000)


def _datetime(value: datetime) -> str:
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds, rest = divmod(since, _SECOND)
    return f"d'{_instant(seconds, rest // timedelta(microseconds=1) * 1000)}'"


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (str, _string),
    (bool, lambda value: str(value).lower()),
    (int, str),
    (float, lambda value: _number(value) + ("f" if abs(value) < float("inf") else "")),
    (type(None), lambda _: "NONE"),
    (Null, repr),
    (Opaque, _opaque),
    (Decimal, lambda value: f"{value}dec"),
    ((list, tuple), lambda value: f"[{', '.join(map(printed, value))}]"),
    (Mapping, _object),
    (RecordID, _record),
    (UUID, lambda value: f"u'{value}'"),
    (datetime, _datetime),
    (timedelta, _timedelta),
    (bytes, lambda value: f'b"{value.hex().upper()}"'),
    (Table, lambda value: _name(str(value.table_name), _PLAIN_NAME, "`")),
)
"""Type → how it is printed; a subclass comes before its base."""


def jsonable(value: Any) -> Any:
    """The value of a row in types that JSON has."""
    if isinstance(value, Mapping):
        return {name: jsonable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(part) for part in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else spoken(value)
