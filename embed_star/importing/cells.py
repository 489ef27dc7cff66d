"""Reads values from texts: numbers, booleans, topics, and the words for no value."""

from __future__ import annotations

import json
import re
from typing import Any

# Fields of GitHub's API that are not text, by their last part.
_INTEGER = re.compile(
    "(github_)?id|size|forks|watchers|open_issues"
    "|(stargazers|watchers|forks|open_issues|network|subscribers)_count"
)
_BOOLEAN = re.compile(
    "private|fork|archived|disabled|is_template|allow_forking|web_commit_signoff_required"
    "|has_(issues|projects|downloads|wiki|pages|discussions)"
    "|site_admin|admin|maintain|push|triage|pull"
)
_WHOLE = re.compile(r"([+-]?[0-9]{1,30})(?:\.0+)?")  # pandas writes 12.0 where a cell was empty
# One dot or comma between three digits may be a decimal point, a comma alone in
# English may not; two of a kind never are.
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+|(?:[.' _\u00a0\u202f][0-9]{3}){2,})")
_SPACED = re.compile(r"[+-]?[0-9]{1,3}(?:[' _\u00a0\u202f][0-9]{3})+")
_SHORT = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?([kKmM])")
_TRUE = frozenset(["true", "t", "yes", "y", "1"])
_FALSE = frozenset(["false", "f", "no", "n", "0"])
_NOTHING = frozenset(["", r"\N", "null", "none", "nan", "n/a", "#n/a", "NA", "<na>", "nil"])


def is_nothing(text: str) -> bool:
    r"""Whether `text` means no value, such as "", `NULL`, Postgres' `\N` or Python's `None`."""
    return text in _NOTHING or text.lower() in _NOTHING


def typed(path: str, text: str) -> Any:
    """The value of the field at `path`, as in GitHub's API, from the text of a cell.

    An empty cell is None, or an empty list of topics. Raises ValueError with the reason when
    a number or a boolean cannot be read. For example, `typed("stargazers_count", "1.2k")` is
    1200.
    """
    last = path.rpartition(".")[2]
    text = text.strip()
    if path == "topics":
        return [] if is_nothing(text) else topics(text)
    if is_nothing(text):
        return None
    if _INTEGER.fullmatch(last):
        return _whole(text)
    if _BOOLEAN.fullmatch(last):
        if text.lower() in _TRUE or text in ("1.0", "on"):
            return True
        if text.lower() in _FALSE or text in ("0.0", "off"):
            return False
        raise ValueError("is neither true nor false")
    return text


def _whole(text: str) -> int:
    if match := _WHOLE.fullmatch(text):
        number = int(match[1])
    elif _GROUPED.fullmatch(text) or _SPACED.fullmatch(text):
        number = int(re.sub(r"[^0-9+-]", "", text))
    elif match := _SHORT.fullmatch(text):
        thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
        number = thousandths * (1 if match[3] in "kK" else 1000)
    else:
        raise ValueError("is not a whole number")
    if not -(2**63) <= number < 2**63:
        raise ValueError("is an integer beyond 64 bits")
    return number


def topics(text: str) -> list[str]:
    """The topics in a JSON, Python or Postgres list, or in a text separated by `,`, `;` or `|`."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None  # Python's own form, as pandas writes it: ['a', 'b']
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return found
    parts = (part.strip(" \t\r\n'\"") for part in re.split(r"[,;|]", text.strip("[]{}")))
    return [part for part in parts if part]
