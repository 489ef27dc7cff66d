"""Converts a repository's fields to the names and shapes of GitHub's REST API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from embed_star.importing.cells import topics, typed
from embed_star.importing.names import (
    ADDRESSES,
    FIELDS,
    OWNER_NAMES,
    WHOLE_NAMES,
    canonical,
    full_name_in,
    targets,
)

_INSIDE = ("repo", "repository", "node")
"""Keys of the repository inside a starred entry, an event or an edge of GraphQL."""
_EVENT = frozenset(["type", "actor", "repo", "payload"])
"""Keys of an event of GitHub's API or GH Archive. Its times are not the repository's."""
_API_ADDRESS = re.compile(r"https?://(api\.|[^/]+/api/)", re.IGNORECASE)
_ASSIGNMENT = re.compile(r",(?=\s*[\w.]+\s*=)", re.ASCII)

Maps = Mapping[str, str]
"""Our field → its key, dotted path or column in the file."""


def parse_maps(texts: tuple[str, ...]) -> dict[str, str]:
    """The maps in texts like `OURS=THEIRS,OURS=THEIRS`. Raises ValueError with a sentence."""
    maps: dict[str, str] = {}
    for part in (part for text in texts for part in _ASSIGNMENT.split(text)):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        field = canonical(ours)
        if not (ours and equals and theirs):
            raise ValueError("--map takes OURS=THEIRS, such as full_name=repo,stars=stargazers")
        if field not in FIELDS:
            raise ValueError(f"--map knows no field {ours[:40]!r}; ours are {', '.join(FIELDS)}")
        if field in maps:
            raise ValueError(f"--map names the field {field} twice")
        maps[field] = theirs
    return maps


def is_repository(value: Mapping[str, Any], maps: Maps) -> bool:
    """Whether the object names its repository, itself or in an object inside."""
    if isinstance(value.get("full_name"), str):
        return True
    if "full_name" in maps and _at(value, maps["full_name"]) is not None:
        return True
    inner = [value[name] for name in _INSIDE if isinstance(value.get(name), dict)]
    if any(_full_name(renamed(one, {})) for one in inner):
        return True
    fields = renamed(value, maps)
    # An owner and a name may be those of a list of repositories.
    return _full_name(fields) is not None and ("full_name" in fields or not _is_list(value, maps))


def _is_list(value: Mapping[str, Any], maps: Maps) -> bool:
    return any(
        is_repository(part[0], maps)
        for part in value.values()
        if isinstance(part, list) and part and isinstance(part[0], dict)
    )


def may_be_repository(keys: Iterable[str], maps: Maps) -> bool:
    """Whether an object with these first keys may name its repository."""
    keys = list(keys)
    known = {canonical(key) for key in keys}
    mapped = maps.get("full_name", "")
    return (
        bool(known & {"full_name", *ADDRESSES, *_INSIDE})
        or bool(known & {*WHOLE_NAMES} and known & {*OWNER_NAMES})
        or any(mapped == key or mapped.startswith(f"{key}.") for key in keys)
    )


def mapped(value: Mapping[str, Any], maps: Maps) -> set[str]:
    """The fields of `maps` with a value in the object, or in the repository inside it."""
    inner = [value[name] for name in _INSIDE if isinstance(value.get(name), dict)]
    return {
        field
        for field, path in maps.items()
        if any(_at(part, path) is not None for part in (value, *inner))
    }


def described(value: Mapping[str, Any], maps: Maps) -> dict[str, Any]:
    """The fields of `value`, with `full_name` if any of them names the repository.

    Unknown fields stay as they are. Does not change `value`.
    """
    fields = {"repo": value["repo"]} if value.keys() >= _EVENT else dict(value)
    for name in _INSIDE:
        inner = fields.get(name)
        if isinstance(inner, dict) and not isinstance(fields.get("full_name"), str):
            del fields[name]
            fields.pop("cursor", None)  # of a GraphQL edge
            fields = {**fields, **inner}
    for path in maps.values():
        if _at(fields, path) is None and (found := _at(value, path)) is not None:
            fields[path] = found  # a path through what is taken apart above
    fields = renamed(fields, maps)
    if not isinstance(fields.get("full_name"), str) or not full_name_in(fields["full_name"]):
        if full_name := _full_name(fields):
            _take(fields, full_name)
    elif "/" in fields["full_name"]:
        fields["full_name"] = full_name_in(fields["full_name"])
    return fields


def renamed(value: Mapping[str, Any], maps: Maps) -> dict[str, Any]:
    """`value` with the REST API's names. An address of the API does not become `html_url`."""
    fields = dict(value)
    for field, path in maps.items():
        found = _at(value, path)
        if found is None:
            continue
        fields.pop(path, None)
        _put(fields, field, _text_typed(field, found))
    found_names = targets(tuple(fields))
    if all(name == field for name, field in found_names.items()):
        return {name: _shaped(name, part) for name, part in fields.items()}
    result: dict[str, Any] = {}
    for name, part in fields.items():
        field = found_names[name]
        if field == "html_url" and name != field and (_is_api(part) or isinstance(part, dict)):
            field = name
        if field == "watchers_count" and isinstance(part, dict):
            field = "subscribers_count"  # GraphQL's watchers are REST's subscribers
        _put(result, field, _text_typed(field, part) if field != name else part)
    return result


def _put(fields: dict[str, Any], field: str, value: Any) -> None:
    value = _shaped(field, value)
    if field == "owner.login":
        inside = fields.get("owner")
        fields["owner"] = {**(inside if isinstance(inside, dict) else {}), "login": value}
    else:
        fields[field] = value


def _text_typed(field: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = typed(field, value)
    except ValueError:
        return value  # the database may judge it
    return found if isinstance(found, int) else value


def _shaped(field: str, value: Any) -> Any:
    """Convert an object or a connection of GraphQL to the plain value of REST."""
    if field == "topics":
        return list(_topics(value)) if value is None or not _is_plain(value) else value
    if not isinstance(value, dict):
        return value
    if field in ("language", "default_branch") and "name" in value:
        return value["name"]
    if field.endswith("_count") and "totalCount" in value:
        return value["totalCount"]
    if field == "license" and "spdxId" in value:
        return {("spdx_id" if name == "spdxId" else name): part for name, part in value.items()}
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _topics(value: Any, levels: int = 6) -> Iterator[str]:
    """The names of topics in any form of `gh`, REST, GraphQL or an export."""
    if not levels:
        return
    if isinstance(value, str):
        yield from topics(value)
    elif isinstance(value, list):
        for one in value:
            yield from [one] if isinstance(one, str) else _topics(one, levels - 1)
    elif isinstance(value, dict):
        if isinstance(value.get("name"), str):
            yield value["name"]
        if value and all(name.isdecimal() for name in value):
            yield from _topics(list(value.values()), levels - 1)  # columns `topics.0`, `topics.1`
        for name in ("nodes", "edges", "node", "topic"):
            yield from _topics(value.get(name), levels - 1)


def _is_api(value: Any) -> bool:
    return isinstance(value, str) and _API_ADDRESS.match(value) is not None


def _full_name(fields: Mapping[str, Any]) -> str | None:
    """`owner/name` from a full name, an owner and a name, or an address; else None."""
    for name in ("full_name", *WHOLE_NAMES):
        text = fields.get(name)
        if isinstance(text, str) and "/" in text and (found := full_name_in(text)):
            return found
    owner, bare = _owner(fields), _bare_name(fields)
    if owner and bare:
        return f"{owner}/{bare}"
    for name in ADDRESSES:
        if isinstance(text := fields.get(name), str) and (found := full_name_in(text)):
            return found
    return None


def _owner(fields: Mapping[str, Any]) -> str | None:
    for name in OWNER_NAMES:
        value = fields.get(name)
        if isinstance(value, dict) and name == "owner":
            value = value.get("login")
        if isinstance(value, str) and value:
            return value
    return None


def _bare_name(fields: Mapping[str, Any]) -> str | None:
    for name in ("name", *WHOLE_NAMES):
        if isinstance(value := fields.get(name), str) and value and "/" not in value:
            return value
    return None


def _take(fields: dict[str, Any], full_name: str) -> None:
    """Set `full_name`, `name` and `owner`, and delete the fields that held them."""
    owner, _, bare = full_name.partition("/")
    for name in WHOLE_NAMES:
        if name != "name" and fields.get(name) in (full_name, bare):
            del fields[name]
    for name in OWNER_NAMES:
        if name not in ("owner", "owner.login") and fields.get(name) == owner:
            del fields[name]
    if not isinstance(fields.get("owner"), dict):
        fields["owner"] = {"login": owner}
    fields["full_name"] = full_name
    fields["name"] = bare


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path, or None. A key may contain dots itself."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    while dot:
        if (found := _at(value.get(head), rest)) is not None:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None
