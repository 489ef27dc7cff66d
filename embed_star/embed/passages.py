"""A README becomes passages, each with a vector of its own. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from embed_star.embed import text
from embed_star.embed.readme import sections, sentences
from embed_star.models import MOST_PASSAGES

VERSION = 1
"""Increased when `split` makes other passages of the same README."""

PASSAGE_TOKENS = 256
"""Estimated tokens of a passage: some 130 words, about one subject. The smallest models of the
catalogue read no more."""

_FEW_TOKENS = 64
"""A section below this shares a passage with the next one."""

_FEWEST_LETTERS = 20
"""A passage with fewer letters and digits says nothing."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a README."""

    heading: str
    """The headings that it stands under; may be empty."""
    body: str

    @property
    def text(self) -> str:
        """What is embedded."""
        return f"{self.heading}\n{self.body}" if self.heading else self.body

    @property
    def hash(self) -> str:
        """The hash of its text."""
        return text.text_hash(self.text)


def find(readme: object, passage_hash: str, max_tokens: int) -> Passage | None:
    """The passage of `readme`, whatever type it has, with this hash; None if there is none."""
    passages = split(readme, max_tokens) if isinstance(readme, str) else []
    return next((one for one in passages if one.hash == passage_hash), None)


def split(readme: str, max_tokens: int) -> list[Passage]:
    """The passages of `readme` in order: at most MOST_PASSAGES, and no two with the same text.

    Each has at most PASSAGE_TOKENS or `max_tokens` estimated tokens, whichever are fewer. Takes
    any text: one without a sentence, such as code or binary data, has no passage.
    """
    found: dict[str, Passage] = {}
    for one in _passages(readme, min(PASSAGE_TOKENS, max_tokens) * text.BYTES_PER_TOKEN):
        found.setdefault(one.text, one)
        if len(found) == MOST_PASSAGES:
            break
    return list(found.values())


def readme_hash(readme: str) -> str:
    """The hash of a README as it is: SHA-256, which the database computes too. Empty for none."""
    return hashlib.sha256(readme.encode()).hexdigest() if readme else ""


def row_hash(own_hash: str, of_readme: str) -> str:
    """The hash of all that is embedded of a row, by which it is judged.

    `own_hash` is that of its text, `of_readme` that of its README. A row without a README has
    its text's.
    """
    if not of_readme:
        return own_hash
    return text.text_hash(f"{VERSION}\0{own_hash}\0{of_readme}")


@dataclass(slots=True)
class _Open:
    """A passage that is being filled, to `room` bytes."""

    room: int
    heading: str = ""
    lines: list[str] = field(default_factory=list)
    used: int = 0

    def begin(self, heading: str) -> None:
        self.heading, self.lines, self.used = heading, [], _bytes(heading)

    def has_room(self, said: str) -> bool:
        return self.used + _bytes(said) <= self.room

    def add(self, said: str, *, goes_on: bool) -> None:
        if goes_on and self.lines:
            self.lines[-1] += f" {said}"
        else:
            self.lines.append(said)
        self.used += _bytes(said)

    def closed(self) -> Iterator[Passage]:
        body = "\n".join(self.lines)
        if sum(map(str.isalnum, body)) >= _FEWEST_LETTERS:
            yield Passage(self.heading, body)
        self.lines, self.used = [], 0


def _passages(readme: str, room: int) -> Iterator[Passage]:
    now = _Open(room)
    few = min(_FEW_TOKENS * text.BYTES_PER_TOKEN, room // 2)
    for section in sections(readme):
        heading = text.cut(" > ".join(section.path), room // text.BYTES_PER_TOKEN // 3)
        own = section.path[-1] if section.path else ""
        if not now.lines:
            now.begin(heading)
        elif now.used >= few or not now.has_room(own):
            yield from now.closed()
            now.begin(heading)
        else:
            now.add(own, goes_on=False)
        for line in section.lines:
            goes_on = False
            for said in _pieces(line, room - _bytes(heading)):
                if not now.has_room(said):
                    yield from now.closed()
                    now.begin(heading)
                now.add(said, goes_on=goes_on)
                goes_on = True
    yield from now.closed()


def _pieces(line: str, room: int) -> Iterator[str]:
    """The sentences of `line`; one that has no room, in as many pieces as it takes."""
    most = max(1, (room - 1) // text.BYTES_PER_TOKEN)
    for sentence in sentences(line):
        left = sentence
        while _bytes(left) > room:
            piece = text.cut(left, most)
            if not piece:
                return  # no letter has room
            word_end = piece.rfind(" ")
            if word_end > len(piece) // 2:
                piece = piece[:word_end]
            yield piece
            left = left[len(piece) :].lstrip()
        if left:
            yield left


def _bytes(said: str) -> int:
    """What it takes in a passage, with the space or line end after it."""
    return len(said.encode()) + 1 if said else 0
