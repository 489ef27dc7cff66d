"""Makes a repository of one row, or refuses the row.

It leaves out values that SurrealDB cannot hold, since they would fail or change silently when
written (server 3.3.5 and engine 2.3.10): integers beyond signed 64 bits wrap around, lone
surrogates have no UTF-8, and with about 100 levels of nesting the server never answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from embed_star.importing.fields import Maps, described

MAX_DEPTH = 32
MAX_NAME_CHARS = 256

_FULL_NAME = re.compile(r"[^/\s\x00-\x1f\x7f-\x9f]+/[^/\s\x00-\x1f\x7f-\x9f]+")
_SHOWN_NAMES = 12
NO_MAPS: Maps = {}
_PLAIN = re.compile(r"[\w.-]{1,80}", re.ASCII)

_Fault = tuple[tuple[str, ...], str]
"""The path of a field, and why it is refused."""


class Repo(NamedTuple):
    """A valid repository: its record key, and all its fields."""

    key: Any
    """`full_name` in lower case, since GitHub's names are case-insensitive; of a row that is there
    already, its key."""
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A good row. It begins on line `line`, counted from 1."""

    line: int
    repo: Repo
    left_out: tuple[str, ...] = ()
    """Fields that are left out since they cannot be read, each with the reason."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A bad row. `reason` quotes no text of the row, only names of fields."""

    line: int
    reason: str


def to_row(line: int, value: object, maps: Maps = NO_MAPS) -> Row | BadLine:
    """The row that `normalise` makes, or a BadLine with its reason to refuse it.

    A field that SurrealDB cannot hold is left out, and its row kept without it.
    """
    left_out: list[str] = []
    try:
        if not isinstance(value, dict) or not _fault(value, 1):
            return Row(line, _repo(value, maps, None))
        return Row(line, _repo(value, maps, left_out), tuple(left_out))
    except ValueError as error:
        return BadLine(line, with_left_out(str(error), left_out))


def with_left_out(reason: str, left_out: Sequence[str]) -> str:
    """Why a row is refused after fields were left out, one of which might have named it."""
    return f"{reason.partition(',')[0]}, and {left_out[0]}" if left_out else reason


def normalise(value: object, maps: Maps = NO_MAPS) -> Repo:
    """The repository that `value` describes, with the field names of GitHub's REST API.

    `value` is a repository object of REST, GraphQL or `gh`, or one with a repository inside.
    For example, `{"starred_at": …, "repo": {…}}` becomes the repository with a field
    `starred_at`. `maps` says where else a field is. Unknown fields stay as they are, except
    `id`, which is SurrealDB's own: it becomes `github_id`, or `node_id` when it is text.
    Does not change `value`. Raises ValueError with the reason for any other value.
    """
    if isinstance(value, dict) and (fault := _fault(value, 1)):
        path, why = fault
        raise ValueError(f"{'.'.join(path)[:200]} {why}")
    return _repo(value, maps, None)


def _repo(value: object, maps: Maps, left_out: list[str] | None) -> Repo:
    """`normalise`, where the caller has looked for faults.

    With a list, fields that SurrealDB cannot hold are left out, and the reasons appended.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a row must be a JSON object, not {_kind(value)}")
    if left_out is None:
        fields = described(value, maps)
    else:
        named = {name: part for name, part in value.items() if isinstance(name, str)}
        fields = dict(_without_faults(described(named, maps), left_out))
    fields["full_name"] = full_name = _full_name(fields, value)
    if "id" in fields:
        # A row that was exported from here brings both, and its `id` is a record's.
        its_id = fields.pop("id")
        is_text = isinstance(its_id, str) and not its_id.isdecimal()
        if not (is_text and its_id.startswith("repo:")):
            fields.setdefault("node_id" if is_text else "github_id", its_id)
    return Repo(full_name.lower(), fields)


def _full_name(fields: dict[str, Any], value: dict[str, Any]) -> str:
    full_name = fields.get("full_name")
    if full_name is None or full_name == "":
        raise ValueError(unnamed(value))
    if not isinstance(full_name, str):
        raise ValueError(f"full_name must be owner/name, not {_kind(full_name)}")
    if len(full_name) > MAX_NAME_CHARS or not _FULL_NAME.fullmatch(full_name):
        raise ValueError("full_name must be owner/name, without spaces")
    return full_name


def unnamed(keys: Iterable[str], kind: str = "key") -> str:
    """The reason to refuse a row with these keys, which name no repository."""
    named = found_names(filter(None, keys), kind)
    return f"full_name is missing, and nothing else names the repository: {named}"


def found_names(names: Iterable[str], kind: str = "key") -> str:
    """A sentence with the file's keys or columns, and the advice to use --map."""
    some = [shown(name) for name in islice(names, _SHOWN_NAMES + 1)]
    if not some:
        return f"it has no {kind}s"
    more = ", …" if len(some) > _SHOWN_NAMES else ""
    return (
        f"its {kind}s are {', '.join(some[:_SHOWN_NAMES])}{more}; if one of them holds owner/name, "
        f"say so with --map full_name={kind.upper()}"
    )


def _without_faults(fields: dict[str, Any], left_out: list[str]) -> Iterator[tuple[str, Any]]:
    for name, part in fields.items():
        if fault := _fault({name: part}, 1):
            path, why = fault
            # No path: each of them would be a reason of its own in the summary.
            left_out.append(f"{path[0]} {why}" if len(path) == 1 else f"a part of {path[0]} {why}")
        else:
            yield name, part


def _fault(value: object, depth: int) -> _Fault | None:
    """The first part of `value` that SurrealDB cannot hold, or None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        why = text_fault(value)
    elif isinstance(value, int):
        why = "" if -(2**63) <= value < 2**63 else "is an integer beyond 64 bits"
    elif isinstance(value, float):
        why = "" if math.isfinite(value) else "is NaN or infinite"
    elif not isinstance(value, dict | list):
        why = f"is {_kind(value)}, which JSON does not have"
    elif depth > MAX_DEPTH:
        why = f"is nested deeper than {MAX_DEPTH} levels"
    else:
        return _inner_fault(value, depth)
    return ((), why) if why else None


def _inner_fault(value: dict[Any, Any] | list[Any], depth: int) -> _Fault | None:
    parts: Iterable[tuple[Any, Any]] = enumerate(value)
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str) or text_fault(name):
                return (shown(name),), "is a field's name and not text"
        parts = value.items()
    for name, part in parts:
        if fault := _fault(part, depth + 1):
            path, why = fault
            return (shown(name), *path), why
    return None


def text_fault(value: str) -> str:
    """Why SurrealDB cannot hold a text; empty when it can."""
    if "\0" in value:
        # Engine 2.3.10 takes it, and then fails every query that would read it.
        return "holds a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair or a byte that is not UTF-8"
    return ""


def shown(name: object) -> str:
    """A field's name for a message: short, without control characters and surrogates."""
    text = str(name)
    return text if _PLAIN.fullmatch(text) else ascii(text[:40])


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
    kinds |= {list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")
