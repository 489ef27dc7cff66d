"""What a valid repository is: `normalise`, and the verdict on one row.

What SurrealDB cannot hold is refused here, because one such value would fail, or
silently change, on its way in (server 3.3.5 and engine 2.3.10): integers beyond signed
64 bits wrap around to another number, lone surrogates have no UTF-8, and nesting of
about 100 levels makes the server never answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_DEPTH = 32
MAX_NAME_CHARS = 256

_FULL_NAME = re.compile(r"[^/\s\x00-\x1f\x7f-\x9f]+/[^/\s\x00-\x1f\x7f-\x9f]+")
_PLAIN = re.compile(r"[\w.-]{1,80}", re.ASCII)

_Fault = tuple[tuple[str, ...], str]
"""The path to a field, and what is wrong with it."""


class Repo(NamedTuple):
    """A valid repository: its record key, and every field it came with."""

    key: str
    """`full_name` in lower case: GitHub's names are case-insensitive."""
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A good row. `line` counts from 1 and is where the row begins."""

    line: int
    repo: Repo


@dataclass(frozen=True, slots=True)
class BadLine:
    """A row that is left out. `reason` holds no text of the row, only field names."""

    line: int
    reason: str


def to_row(line: int, value: object) -> Row | BadLine:
    """`normalise`, with a refusal as a BadLine."""
    try:
        return Row(line, normalise(value))
    except ValueError as error:
        return BadLine(line, str(error))


def normalise(value: object) -> Repo:
    """The repository that a value of GitHub's API describes.

    Takes a repository object, or `{"starred_at": …, "repo": {…}}`, whose `starred_at`
    becomes a field. Fields stay as they are, but for two: a missing `full_name` is made
    of `owner.login` and `name`, and `id` becomes `github_id`, since `id` is SurrealDB's
    own. Does not change `value`. Raises ValueError with the reason, for any other value.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a row must be a JSON object, not {_kind(value)}")
    fields = dict(value)
    if "full_name" not in fields and isinstance(fields.get("repo"), dict):
        fields = {**fields.pop("repo"), **fields}
    if fault := _fault(fields, 1):
        path, why = fault
        raise ValueError(f"{'.'.join(path)[:200]} {why}")
    fields["full_name"] = full_name = _full_name(fields)
    if "id" in fields:
        # A row that was exported from here brings both, and its `id` is a record's.
        fields.setdefault("github_id", fields.pop("id"))
    return Repo(full_name.lower(), fields)


def _full_name(fields: dict[str, Any]) -> str:
    full_name = fields.get("full_name")
    if full_name is None or full_name == "":
        owner, name = fields.get("owner"), fields.get("name")
        login = owner.get("login") if isinstance(owner, dict) else None
        if not (isinstance(login, str) and isinstance(name, str) and login and name):
            raise ValueError("full_name is missing, and there is no owner.login with name")
        full_name = f"{login}/{name}"
    if not isinstance(full_name, str):
        raise ValueError(f"full_name must be owner/name, not {_kind(full_name)}")
    if len(full_name) > MAX_NAME_CHARS or not _FULL_NAME.fullmatch(full_name):
        raise ValueError("full_name must be owner/name, without spaces")
    return full_name


def _fault(value: object, depth: int) -> _Fault | None:
    """What in `value` SurrealDB cannot hold, or None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        why = _text_fault(value)
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
            if not isinstance(name, str) or _text_fault(name):
                return (shown(name),), "is a field's name and not text"
        parts = value.items()
    for name, part in parts:
        if fault := _fault(part, depth + 1):
            path, why = fault
            return (shown(name), *path), why
    return None


def _text_fault(value: str) -> str:
    if "\0" in value:
        # Engine 2.3.10 takes it, and then fails every query that would read it.
        return "holds a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair or a byte that is not UTF-8"
    return ""


def shown(name: object) -> str:
    """A field's name for a message: no control characters, no surrogates, not long."""
    text = str(name)
    return text if _PLAIN.fullmatch(text) else ascii(text[:40])


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
    kinds |= {list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")
