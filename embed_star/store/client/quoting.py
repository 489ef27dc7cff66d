"""Names and texts that have to stand in a statement itself, for no parameter is taken there."""

from __future__ import annotations


def quoted(name: str) -> str:
    """`name` as an identifier, whatever is in it: `my-app`, `select` and `a.b` are names, too.

    In backticks, with what would end them escaped: so 2.3 and 3.x read it.
    """
    return "`" + _escaped(name, "`") + "`"


def quoted_path(path: str) -> str:
    """`owner.login` with each of its names quoted."""
    return ".".join(map(quoted, path.split(".")))


def quoted_text(text: str) -> str:
    """`text` as a string literal."""
    return "'" + _escaped(text, "'") + "'"


def _escaped(text: str, end: str) -> str:
    return text.replace("\\", "\\\\").replace(end, "\\" + end)
