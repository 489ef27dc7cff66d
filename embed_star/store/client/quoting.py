"""Quotes names and texts for the places of a statement that take no parameter."""

from __future__ import annotations


def quoted(name: str) -> str:
    """`name` as one identifier, whatever it contains, such as `my-app`, `select` or `a.b`.

    It stands in backticks, and those inside are escaped. Server 2.3 and 3.x read that.
    """
    return "`" + _escaped(name, "`") + "`"


def quoted_path(path: str) -> str:
    """A path such as `owner.login`, each of its names quoted."""
    return ".".join(map(quoted, path.split(".")))


def quoted_text(text: str) -> str:
    """`text` as a string literal."""
    return "'" + _escaped(text, "'") + "'"


def _escaped(text: str, end: str) -> str:
    return text.replace("\\", "\\\\").replace(end, "\\" + end)
