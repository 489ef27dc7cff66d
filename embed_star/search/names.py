"""How a repository's name matches a query. Pure functions.

Names are compared flat: in lower case, and with nothing but letters and digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from string import ascii_lowercase, digits

from embed_star.store.tables.names import flat

MAX_CHARS = 100
"""The longest name that GitHub allows. What is longer names nothing."""

_FEW_WORDS = 3
"""A query of more words is a sentence: only a name that equals it can be meant."""
_MANY_WORDS = 6
_PREFIX_CHARS = 3
_TYPO_CHARS = 5
_TWO_TYPOS_CHARS = 8

_BEFORE = ("vim", "nvim", "emacs", "go", "node", "python", "py", "rust", "php", "ruby")
_AFTER = ("vim", "nvim", "el", "js", "ts", "jl", "rs", "py", "go", "sh", "php", "rb", "cpp", "net")
_AFFIX = re.compile(rf"^(?:{'|'.join(_BEFORE)})[-_.]|[-_.](?:{'|'.join(_AFTER)})$")
_ADDRESS = re.compile(r"^(?:https?://)?(?:www\.)?github\.com/|(?:\.git)?/?$", re.IGNORECASE)
_LETTERS = ascii_lowercase + digits


class NameMatch(Enum):
    """A kind of match, the best first. The value says it to people."""

    FULL_NAME = "owner and name"
    NAME = "name"
    CORE_NAME = "name, but for what it is for"
    TYPO = "name, but for a typing error"
    PREFIX = "beginning of the name"
    TWO_TYPOS = "name, but for two typing errors"

    @property
    def rank(self) -> int:
        """0 is the best."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(NameMatch)}


@dataclass(frozen=True, slots=True)
class NameQuery:
    """A query, read as the name of a repository."""

    flat: str
    names: tuple[str, ...]
    """Flat names, without owners, which a matching repo may have."""
    prefixes: tuple[str, ...]
    """Beginnings of such names. Every match has one of `names` or begins with one of these, but
    for a typing error in a letter that is not among a to z and 0 to 9."""
    is_short: bool

    def match(self, full_name: str) -> NameMatch | None:
        """How the repo `full_name` (owner/name) matches."""
        owner, _, bare = full_name.rpartition("/")
        name = flat(bare)
        if name == self.flat:
            return NameMatch.NAME
        if owner and self.flat == flat(owner) + name:
            return NameMatch.FULL_NAME
        if not self.is_short or not name:
            return None
        if flat(_AFFIX.sub("", bare.lower())) == self.flat:
            return NameMatch.CORE_NAME
        most = _typing_errors(self.flat)
        errors = distance(self.flat, name, most)
        if errors == 1 <= most:
            return NameMatch.TYPO
        if len(self.flat) >= _PREFIX_CHARS and name.startswith(self.flat):
            return NameMatch.PREFIX
        if errors == 2 <= most and name.startswith(self.flat[: len(self.flat) // 2]):
            return NameMatch.TWO_TYPOS  # with one in the first half it would not be looked up
        return None


def read_name(query: str) -> NameQuery | None:
    """`query` as a name; None when it cannot be one. Takes GitHub's addresses, too."""
    words = _ADDRESS.sub("", query.strip()).replace("/", " ").split()
    whole = flat("".join(words))
    if not whole or len(whole) > MAX_CHARS:
        return None
    names = [whole]
    if len(words) <= _MANY_WORDS:  # the first words may be the owner
        names += [flat("".join(words[start:])) for start in range(1, len(words))]
    if len(words) > _FEW_WORDS:
        return NameQuery(whole, tuple(filter(None, names)), (), is_short=False)
    names += [affix + whole for affix in _BEFORE] + [whole + affix for affix in _AFTER]
    prefixes = [whole] if len(whole) >= _PREFIX_CHARS else []
    if _typing_errors(whole) == 1:
        names += _one_error_before(whole, len(whole) + 1)
    elif _typing_errors(whole) > 1:
        # An error in the first half gives one of these names, one in the second this beginning.
        # (That of a shorter name is too short: a hundredth of all names would be read.)
        half = len(whole) // 2
        names += _one_error_before(whole, half + 1)
        prefixes.append(whole[:half])
    return NameQuery(whole, tuple(dict.fromkeys(filter(None, names))), tuple(prefixes), True)


def distance(one: str, other: str, most: int) -> int:
    """Letters to insert, delete, replace or swap with the next, so that `one` becomes `other`.

    (Damerau and Levenshtein; each place is edited once.) `most` + 1 for any distance beyond.
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, above, row = row, before, [i]
        for j, wanted in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def _typing_errors(name: str) -> int:
    """How many are forgiven."""
    return (len(name) >= _TYPO_CHARS) + (len(name) >= _TWO_TYPOS_CHARS)


def _one_error_before(name: str, end: int) -> Iterator[str]:
    """`name` with one typing error that begins before place `end`."""
    for at in range(end):
        yield name[:at] + name[at + 1 :]
        yield name[:at] + name[at + 1 : at + 2] + name[at : at + 1] + name[at + 2 :]
        for letter in _LETTERS:
            yield name[:at] + letter + name[at:]
            yield name[:at] + letter + name[at + 1 :]
