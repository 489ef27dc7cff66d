"""The event on the table `repo`, as `store.tables.event.event_sql` defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embed_star.store.tables.passages import announced_fields
from embed_star.values import printed

Fields = Mapping[str, Any]


class RepoEvent:
    """Says which writes are announced: those that change a field of the text."""

    def __init__(self, text_fields: Sequence[str]) -> None:
        self._paths = [path.split(".") for path in text_fields]
        self._announced = [path.split(".") for path in announced_fields(text_fields)]

    def values(self, repo: Fields | None) -> tuple[Any, ...]:
        """The values of the text fields, in their order; None for what is not there."""
        return tuple(_at(repo, path) for path in self._paths)

    def announces(self, before: Fields | None, after: Fields | None) -> bool:
        """Whether a repo that was `before` and is `after` now is announced; None: no repo."""
        if before is None or after is None:
            return before is not after
        return self._printed(before) != self._printed(after)

    def size(self, after: Fields | None) -> int:
        """The length of its text in characters, roughly."""
        return len(self._printed(after))

    def _printed(self, repo: Fields | None) -> str:
        return printed(tuple(_at(repo, path) for path in self._announced))


def _at(value: Any, path: Sequence[str]) -> Any:
    if not path:
        return value
    if isinstance(value, Mapping):
        return _at(value.get(path[0]), path[1:])
    if isinstance(value, list):
        return [_at(part, path) for part in value]
    return None
